"""Targets that have moved: old names mean the same, and no hash has changed by it."""

from importlib import import_module

import pytest
from hydra.utils import get_object

from denoise.config import catalog, trust
from denoise.config.compose import compose
from denoise.config.moved import FIRST, MOVED, as_first_named, now
from search.study.spec import prepare
from search.trial.config_hash import config_sha256


@pytest.mark.parametrize(
    ("overrides", "before"),
    [
        ([], "ab99d45667b8ff058dea2b90f94847e55646c9590e27c0f2258203269e7ba7f6"),
        (["model=dit", "solver=euler"], "803f9dbe7c779d31788b458d2f7df23fc0e30a000ecf4f38658e9d97355560f7"),
        (["initializer=lsuv"], "d819edb17aad97a9bfc8f6f59fe8711f07e05d8009b661c68532d9da0447b351"),
        (
            ["initializer=pretrained", "initializer.path=/x.ckpt"],
            "1f11fddcb6ef66d78e7dd6528ebd5a3c9c426a1eaecd63fa2ecfb16914571e87",
        ),
    ],
)
def test_a_config_is_named_as_before_the_move(overrides: list[str], before: str) -> None:
    assert config_sha256(compose(overrides)) == before


def test_a_search_is_named_as_before_the_move() -> None:
    found = prepare(["trainer.num_threads=1"])
    assert (found.name, found.family) == ("digits-unet-joint-951eff95", "digits-unet-joint-64114f53")


def test_an_old_name_means_the_new_one() -> None:
    typed = compose(["model._target_=denoise.unet.UNet"])
    assert config_sha256(typed) == config_sha256(compose([]))
    assert trust.find("denoise.unet.UNet", ("model",), "model") is get_object("denoise.model.unet.UNet")


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_what_has_moved_is_named_by_an_option_file(old: str, new: str) -> None:
    files = catalog.CONF.glob("*/*.yaml")
    assert any(f"_target_: {new}\n" in f.read_text() for f in files) and now(old) == new and now(new) == new
    first = next(each for each, named in MOVED.items() if named == new)
    assert as_first_named({"x": [{"_target_": new}]}) == {"x": [{"_target_": first}]} and FIRST[new] == first
    assert as_first_named({"_target_": old})["_target_"] in (old, first)
    module, _, name = new.rpartition(".")
    assert hasattr(import_module(module), name)
