"""What names a training: the files that its model's and its denoiser's paths lead to are part of it."""

import json
from pathlib import Path

from denoise.config.compose import compose
from search.trial.config_hash import config_sha256


def test_a_changed_file_is_another_training(tmp_path: Path) -> None:
    def named(*more: str) -> str:
        return config_sha256(compose(["model=diffusers", f"model.path={tmp_path}", *more]))

    config, weights = tmp_path / "config.json", tmp_path / "diffusion_pytorch_model.safetensors"
    config.write_text(json.dumps({"_class_name": "UNet2DModel"}))
    weights.write_bytes(b"one")
    random, kept = named(), named("model.weights=keep")
    weights.write_bytes(b"another")
    assert named() == random, "weights that are not read"
    assert named("model.weights=keep") != kept
    config.write_text(json.dumps({"_class_name": "UNet2DModel", "layers_per_block": 1}))
    assert named() != random
    assert config_sha256(compose(["model=diffusers", f"model.path={tmp_path / 'gone'}"])), (
        "its training says what lacks"
    )
    schedule = tmp_path / "scheduler_config.json"
    before = None
    for kind in ("epsilon", "sample"):
        schedule.write_text(json.dumps({"_class_name": "DDPMScheduler", "prediction_type": kind}))
        now = config_sha256(compose(["denoiser=scheduler", f"denoiser.path={schedule}"]))
        assert now != before
        before = now
