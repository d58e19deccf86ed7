"""What a config leaves to be measured on its data: sigma_data=auto becomes a number."""

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig

from denoise.config.compose import Composed, compose, parse
from denoise.config.legal import select
from denoise.data import images
from denoise.data.cache import keep_in as keep_in
from denoise.data.images import Images
from denoise.errors import UserError
from denoise.paths import place

AUTO = "auto"
MEASURED = ("data.sigma_data", "denoiser.sigma_data")  # the second follows the first unless it is typed


def settle(composed: Composed, overrides: Sequence[str], root: str = "train") -> tuple[Composed, list[str]]:
    """The config with numbers for what it leaves to be measured, and the overrides that say them.

    They are part of every record from here on, so that a run is reproduced without a second look. What is decoded for
    that is kept in the config's store. Errors: UserError.
    """
    keep_in(place(composed.cfg.store, f"store={composed.cfg.store}"))
    settled = list(overrides)
    for path in MEASURED:
        if select(composed.cfg, path) == AUTO:
            settled = [text for text in settled if parse(text).key_or_group != path]
            settled.append(f"{path}={sigma_data(images.load(composed.cfg.data))}")
            composed = compose(settled, root)
    return composed, settled


def sigma_data(data: Images) -> float:
    """The standard deviation of the training images. Errors: UserError where they are all of one colour."""
    found = data.sigma()
    if not found >= 1e-3:
        raise UserError(f"data.sigma_data=auto: the training images do not differ (standard deviation {found:g})")
    return found


def with_measured(node: DictConfig, data: Images) -> Any:
    """The config of a denoiser or a ruler, measured where that has not been done: of what is built alone."""
    return {**node, "sigma_data": sigma_data(data)} if node.get("sigma_data") == AUTO else node
