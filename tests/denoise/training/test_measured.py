"""sigma_data=auto: measured once, and a number from then on."""

import pytest
import torch

from denoise.config.compose import compose
from denoise.data import cache, load
from denoise.data.images import SPLITS, Images
from denoise.errors import UserError
from denoise.training.measured import settle, sigma_data
from denoise.training.train import prepare
from search.study import spec
from search.trial.config_hash import config_sha256
from tests.quick import NUMBERS, SMALL
from tests.tiny import TINY

AUTO = ["data.sigma_data=auto", *TINY]


@pytest.fixture(autouse=True)
def in_memory(monkeypatch):
    monkeypatch.setattr(cache, "kept_in", None)


def measured() -> float:
    """By hand, on the training images alone, to four digits."""
    pixels = load(compose(AUTO).cfg.data).images["train"].double()
    return float(f"{((pixels - pixels.mean()).square().mean()).sqrt().item():.4g}")


def test_a_settled_config_is_the_one_with_the_number():
    composed, overrides = settle(compose(AUTO), AUTO)
    assert overrides == [*TINY, f"data.sigma_data={measured()}"]
    assert composed.cfg.data.sigma_data == composed.cfg.denoiser.sigma_data == measured() != 0.75
    typed = compose([f"data.sigma_data={measured()}", *TINY])
    assert config_sha256(composed) == config_sha256(typed)
    assert settle(typed, AUTO) == (typed, AUTO)


def test_the_denoisers_own_is_measured_too():
    overrides = ["denoiser.sigma_data=auto", *TINY]
    composed, settled = settle(compose(overrides), overrides)
    assert settled == [*TINY, f"denoiser.sigma_data={measured()}"] and composed.cfg.data.sigma_data == 0.75


def test_what_is_built_without_a_record_measures():
    assert prepare(compose(AUTO).cfg).denoiser.sigma_data == measured()


def test_every_trial_of_a_search_has_the_number():
    prepared = spec.prepare([*AUTO, *SMALL, *NUMBERS])
    assert f"data.sigma_data={measured()}" in prepared.baseline
    assert prepared.composed.cfg.denoiser.sigma_data == measured()


def test_where_data_are_kept_is_no_part_of_a_training():
    one, other = compose(["data=folder", "data.memory=1", "store=a"]), compose(["data=folder"])
    assert config_sha256(one) == config_sha256(other)


def test_images_of_one_colour_have_no_deviation():
    images, labels = (
        {split: make(4) for split in SPLITS} for make in (lambda n: torch.zeros(n, 1, 2, 2), torch.arange)
    )
    with pytest.raises(UserError, match="data.sigma_data=auto: the training images do not differ"):
        sigma_data(Images(images, labels, num_classes=4))
