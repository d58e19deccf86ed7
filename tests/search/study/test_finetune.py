"""search=finetune: goes on from a checkpoint, and draws nothing that changes what the network computes at the start."""

from pathlib import Path

import pytest
import torch

from denoise.config.compose import compose
from denoise.errors import UserError
from denoise.metrics import CHECKPOINT_LOSS
from denoise.training.module import DenoiseModule
from denoise.training.train import first_losses, prepare
from search.study import spec

QUICK = ["trainer.num_threads=1", "trainer.accelerator=cpu", "data.batch_size=4"]


@pytest.mark.filterwarnings("ignore")
def test_a_search_begins_at_the_checkpoint(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers", reason="make install EXTRA=diffusers brings it")
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",), "block_out_channels": (8,)}
    sizes = {"sample_size": 8, "in_channels": 1, "out_channels": 1, "layers_per_block": 1, "norm_num_groups": 4}
    model = diffusers.UNet2DModel(**sizes, **blocks)
    model.save_pretrained(tmp_path / "checkpoint")
    typed = ["search=finetune", "model=diffusers", f"model.path={tmp_path / 'checkpoint'}", "data=digits", *QUICK]
    search = spec.prepare([*typed, f"store={tmp_path / 'runs'}"])
    assert set(search.space.options) == {"weight_normalization", "optimizer", "lr_schedule"}
    assert list(search.space.free) == ["trainer.ema_decay"]
    start, normed = (
        prepare(compose([*(t for t in search.baseline if not t.startswith("weight_normalization")), chosen]).cfg)
        for chosen in ("weight_normalization=none", "weight_normalization=weight_norm")
    )
    assert isinstance(start, DenoiseModule) and isinstance(normed, DenoiseModule)
    kept = {name.removeprefix("backbone.net."): value for name, value in start.denoiser.state_dict().items()}
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
    first, own = first_losses(compose(search.baseline).cfg, start).values()
    assert first == own == start.first_loss(), "the baseline begins at the checkpoint"
    assert first_losses(compose([*search.baseline, "activation=relu"]).cfg, start)[CHECKPOINT_LOSS] == own
    batch = start.draw(0)
    torch.testing.assert_close(normed.denoiser.loss(*batch), start.denoiser.loss(*batch))


def test_a_network_without_a_checkpoint_is_refused() -> None:
    with pytest.raises(UserError, match=r"model.weights=keep: model unet has no such parameter"):
        spec.prepare(["search=finetune", *QUICK])
