"""Every size in conf/model, odd, small and non-dividing too: it trains one step, or one line says what is legal."""

import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from denoise.config import catalog, compose
from denoise.errors import UserError
from denoise.model.block import Parts
from denoise.model.dit import DiT
from denoise.model.embedding import Fourier
from denoise.model.initialize import initialize
from denoise.model.unet import UNet
from denoise.training.train import build_parts

PARTS = build_parts(compose.compose(["zero_output=false"]).cfg)
SIZE = 8
small = st.one_of(st.integers(4, 13), st.sampled_from([33, 127]))
both = {
    "embedding_dim": small,
    "num_heads": st.integers(1, 7),
    "feed_forward_ratio": st.one_of(st.sampled_from([0.125, 32.0]), st.floats(0.125, 4.0)),
}
UNETS = st.fixed_dictionaries(
    {
        **both,
        "width": st.integers(1, 13),
        "channel_mult": st.lists(st.integers(1, 3), min_size=0, max_size=5),
        "blocks_per_level": st.integers(1, 3),
        "attention_levels": st.lists(st.integers(0, 4), max_size=3),
    }
)
DITS = st.fixed_dictionaries(
    {**both, "dim": st.integers(4, 21), "depth": st.integers(1, 3), "patch_size": st.integers(1, 9)}
)


def takes_a_step(build: Any, model: dict[str, Any], classes: int, parts: Parts = PARTS) -> bool:
    """Train one step, all weights finite and some moved; False where it is refused as a refusal has to be."""
    try:
        net: nn.Module = build((SIZE, SIZE), 1, classes, parts, **model)
    except UserError as refusal:
        said = re.match(r"model\.(\w+)", str(refusal))
        assert said and said[1] in model and re.search(r"legal: \d|take |such as ", str(refusal)), str(refusal)
        return False
    initialize(net, parts, 0)
    before = [p.detach().clone() for p in net.parameters()]
    torch.manual_seed(0)
    y = net(torch.randn(2, 1, SIZE, SIZE), torch.randn(2), torch.arange(2) if classes else None)
    (y - 1).square().mean().backward()
    torch.optim.SGD(net.parameters(), lr=0.01).step()
    assert all(p.isfinite().all() for p in net.parameters())
    assert not all(torch.equal(p, was) for p, was in zip(net.parameters(), before, strict=True))
    return True


@given(model=UNETS, classes=st.sampled_from([0, 3]))
@settings(max_examples=40, deadline=None)
def test_a_unet_of_any_sizes_trains_or_is_refused(model: dict[str, Any], classes: int) -> None:
    takes_a_step(UNet, model, classes)


@given(model=DITS, classes=st.sampled_from([0, 3]))
@settings(max_examples=40, deadline=None)
def test_a_dit_of_any_sizes_trains_or_is_refused(model: dict[str, Any], classes: int) -> None:
    takes_a_step(DiT, model, classes)


LEAST = {"num_heads": 1, "feed_forward_ratio": 0.125, "embedding_dim": 5}


@pytest.mark.parametrize("kind", ["normalization", "feed_forward", "weight_normalization"])
def test_the_smallest_models_train_with_every_option(kind: str) -> None:
    for option in catalog.options(kind):
        parts = build_parts(compose.compose(["zero_output=false", f"{kind}={option}"]).cfg)
        assert takes_a_step(UNet, {**LEAST, "width": 1, "channel_mult": [1], "attention_levels": [0]}, 0, parts)
        assert takes_a_step(DiT, {**LEAST, "dim": 4, "depth": 1, "patch_size": SIZE}, 0, parts)


@pytest.mark.parametrize("dim", [4, 5, 16, 127])
def test_an_embedding_has_as_many_numbers_as_it_says(dim: int) -> None:
    """Of length sqrt(dim); where there is one too many, that is 0 and the others are those of one less."""
    c = torch.tensor([-1.3, 0.0, 0.4])
    even, found = Fourier(dim - dim % 2)(c), Fourier(dim)(c)
    assert found.shape == (3, dim) and torch.equal(found[:, : even.shape[1]], even)
    assert not found[:, even.shape[1] :].any()
    torch.testing.assert_close(even.square().sum(1), torch.full((3,), float(even.shape[1])))
