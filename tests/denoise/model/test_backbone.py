"""Backbones and their blocks: shapes, conditioning, placements, dropout, and how weights start."""

import itertools
import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from denoise.config import catalog, compose
from denoise.errors import UserError
from denoise.model.block import PLACEMENTS, Parts
from denoise.model.dit import DiT
from denoise.model.embedding import sin_cos_2d
from denoise.model.initialize import initialize
from denoise.model.unet import UNet
from denoise.training.train import build_parts

PARTS = build_parts(compose.compose(["activation=tanh", "normalization=layer_norm"]).cfg)


def with_parts(zero_output: bool = True, **change) -> Parts:
    """The parts with a change in each; without `zero_output` every layer speaks from the start."""
    each = {name: replace(getattr(PARTS, name), **change) for name in ("residual", "transformer", "embedding")}
    return Parts(**each, zero_output=zero_output)


def sides(size: int | tuple[int, int]) -> tuple[int, int]:
    return size if isinstance(size, tuple) else (size, size)


def unet(
    parts: Parts = PARTS, size: int | tuple[int, int] = 8, channels: int = 1, classes: int = 0, seed: int = 0, **model
) -> nn.Module:
    small = {"width": 4, "num_heads": 2, "embedding_dim": 8}
    built = UNet(sides(size), channels, classes, parts, **{**small, **model})
    initialize(built, parts, seed)
    return built


def dit(
    parts: Parts = PARTS, size: int | tuple[int, int] = 8, channels: int = 1, classes: int = 0, seed: int = 0, **model
) -> nn.Module:
    small = {"dim": 8, "depth": 2, "num_heads": 2, "embedding_dim": 8}
    built = DiT(sides(size), channels, classes, parts, **{**small, **model})
    initialize(built, parts, seed)
    return built


BACKBONES = {"unet": unet, "dit": dit}
both = pytest.mark.parametrize("build", BACKBONES.values(), ids=BACKBONES)


def inputs(size: int | tuple[int, int] = 8, channels: int = 1, classes: int = 0, batch: int = 3) -> tuple:
    torch.manual_seed(0)
    x, c_noise = torch.randn(batch, channels, *sides(size)), torch.randn(batch) / 2
    return x, c_noise, torch.arange(batch) % classes if classes else None


def stirred(model: nn.Module) -> nn.Module:
    """All weights drawn anew, so that nothing is zero."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return model


# ---------------------------------------------------------------- shapes


@given(data=st.data(), levels=st.integers(1, 3), channels=st.sampled_from([1, 3]), classes=st.sampled_from([0, 3]))
@settings(max_examples=25, deadline=None)
def test_unet_keeps_any_size_that_its_depth_divides(data, levels, channels, classes):
    height, width = (2 ** (levels - 1) * data.draw(st.integers(1, 5), "size over the factor") for _ in range(2))
    size = (height, width)
    mult = data.draw(st.lists(st.sampled_from([1, 2, 3]), min_size=levels, max_size=levels), "channel_mult")
    attention = data.draw(st.sets(st.integers(0, levels - 1)), "attention_levels")
    blocks = data.draw(st.integers(1, 2), "blocks_per_level")
    parts = with_parts(zero_output=False)
    model = unet(
        parts, size, channels, classes, channel_mult=mult, attention_levels=sorted(attention), blocks_per_level=blocks
    )
    x, c_noise, labels = inputs(size, channels, classes, batch=2)
    y = model(x, c_noise, labels)
    assert y.shape == x.shape and y.isfinite().all() and y.abs().max() > 0


@given(
    patch=st.integers(1, 4),
    patches=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    channels=st.sampled_from([1, 3]),
    classes=st.sampled_from([0, 3]),
    depth=st.integers(1, 2),
)
@settings(max_examples=25, deadline=None)
def test_dit_keeps_any_size_that_its_patch_divides(patch, patches, channels, classes, depth):
    size = (patch * patches[0], patch * patches[1])
    model = dit(with_parts(zero_output=False), size, channels, classes, patch_size=patch, depth=depth)
    x, c_noise, labels = inputs(size, channels, classes, batch=2)
    y = model(x, c_noise, labels)
    assert y.shape == x.shape and y.isfinite().all() and y.abs().max() > 0


@pytest.mark.parametrize(("height", "width"), [(3, 5), (5, 3), (1, 4)])
def test_each_position_has_the_waves_of_its_row_and_column(height, width):
    dim = 8
    frequency = [10000.0 ** (-i / (dim // 4)) for i in range(dim // 4)]
    for y, x in itertools.product(range(height), range(width)):
        wanted = [wave(at * f) for at in (y, x) for wave in (math.sin, math.cos) for f in frequency]
        torch.testing.assert_close(sin_cos_2d(dim, height, width)[y * width + x], torch.tensor(wanted))


def test_dit_puts_each_patch_back_where_it_was():
    """With blocks that add nothing, a pixel that changes in one patch changes only that patch of the output."""
    model = dit(with_parts(zero_output=True), size=(4, 6), patch_size=2)
    nn.init.normal_(model.out.weight)
    x, c_noise, _ = inputs((4, 6))
    moved = x.clone()
    moved[:, :, 3, 4] += 1  # row 1, column 2 of the patches
    changed = (model(moved, c_noise) - model(x, c_noise)).abs().amax(dim=(0, 1)) > 0
    where = torch.zeros(4, 6, dtype=torch.bool)
    where[2:4, 4:6] = True
    assert torch.equal(changed, where)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: unet(size=6, channel_mult=[1, 2, 2]), "take at most 2 entries"),
        (lambda: unet(size=9), "model.channel_mult"),
        (lambda: unet(size=(8, 6), channel_mult=[1, 2, 2]), "the data have 8x6; take at most 2 entries"),
        (lambda: dit(size=(12, 8), patch_size=3), "image size 12x8; legal: 1, 2, 4"),
        (lambda: unet(attention_levels=[2]), "legal: 0, 1"),
        (lambda: unet(num_heads=3), "model.num_heads=3"),
        (lambda: dit(size=9, patch_size=2), "legal: 1, 3, 9"),
        (lambda: dit(dim=10), "take 8"),
        (lambda: dit(num_heads=3), "model.num_heads=3"),
        (lambda: dit(with_parts(placement="middle")), "legal: pre, post, sandwich"),
        (lambda: unet(with_parts(dropout=1.0)), "dropout=1.0"),
    ],
)
def test_what_cannot_be_built_is_refused(make, said):
    with pytest.raises(UserError, match=said):
        make()


# ---------------------------------------------------------------- what acts


@both
def test_noise_level_and_label_act(build):
    model = stirred(build(classes=3)).eval()
    x, c_noise, labels = inputs(classes=3)
    y = model(x, c_noise, labels)
    assert (model(x, c_noise + 0.5, labels) - y).abs().amax(dim=(1, 2, 3)).min() > 1e-3
    assert (model(x, c_noise, (labels + 1) % 3) - y).abs().amax(dim=(1, 2, 3)).min() > 1e-3
    with pytest.raises(ValueError, match="labels"):
        model(x, c_noise, None)


@both
def test_images_of_a_batch_do_not_mix(build):
    model = stirred(build()).eval()
    x, c_noise, _ = inputs()
    alone = torch.cat([model(x[i : i + 1], c_noise[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(model(x, c_noise), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("placement", PLACEMENTS)
@both
def test_every_parameter_gets_a_gradient(build, placement):
    """A layer that nothing reads would stay at its start unseen."""
    model = stirred(build(with_parts(placement=placement), classes=3))
    y = model(*inputs(classes=3))
    (y * torch.randn_like(y)).sum().backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    assert silent == []


@both
def test_placements_differ(build):
    outputs = [build(with_parts(zero_output=False, placement=p))(*inputs()) for p in PLACEMENTS]
    for i, one in enumerate(outputs):
        assert all((one - other).abs().max() > 1e-3 for other in outputs[:i])


def norm_count(model: nn.Module) -> int:
    return sum(getattr(module, "kind", None) == "normalization" for module in model.modules())


@both
def test_a_sandwich_has_one_norm_more_a_branch(build):
    pre, post, sandwich = (norm_count(build(with_parts(placement=p))) for p in PLACEMENTS)
    branches = sum(type(m).__name__ == "Norms" for m in build().modules())
    assert pre == post == sandwich - branches and branches > 0


@both
def test_dropout_acts_in_training_only(build):
    model, plain = build(with_parts(zero_output=False, dropout=0.5)), build(with_parts(zero_output=False))
    x = inputs()
    assert torch.equal(model.eval()(*x), plain.eval()(*x))
    torch.manual_seed(0)
    one, other = model.train()(*x), model(*x)
    assert (one - other).abs().max() > 1e-3
    assert torch.equal(plain.train()(*x), plain.eval()(*x))


@both
def test_channels_last_gives_the_same(build):
    model, x = stirred(build()), inputs()
    y = model(*x)
    model = model.to(memory_format=torch.channels_last)
    again = model(x[0].to(memory_format=torch.channels_last), *x[1:])
    torch.testing.assert_close(again, y, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- how weights start


@both
def test_zero_output_starts_at_zero_and_without_it_not(build):
    assert build()(*inputs()).abs().max() == 0
    assert build(with_parts(zero_output=False))(*inputs()).abs().max() > 1e-3


@both
def test_biases_and_modulations_start_at_zero(build):
    model = build(with_parts(zero_output=False))
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            assert module.bias is None or module.bias.abs().max() == 0
            assert (module.weight.abs().max() == 0) == ("modulation" in name)


@both
def test_same_seed_same_weights(build):
    torch.manual_seed(1)
    one = build().state_dict()
    torch.manual_seed(2)
    again, other = build().state_dict(), build(seed=1).state_dict()
    assert all(torch.equal(one[name], again[name]) for name in one)
    drawn = [name for name in one if one[name].ndim >= 2 and one[name].abs().max() > 0]
    assert drawn and not any(torch.equal(one[name], other[name]) for name in drawn)


@pytest.mark.parametrize(
    ("build", "more"),
    [
        (unet, {"channel_mult": [1, 2, 2]}),
        (unet, {"attention_levels": []}),
        (unet, {"blocks_per_level": 2}),
        (dit, {"depth": 3}),
    ],
)
def test_more_layers_change_no_others_weights(build, more):
    """A weight is drawn by its name. (What has its name and shape in both models is the same layer.)"""
    parts = with_parts(zero_output=False)
    one, other = build(parts).state_dict(), build(parts, **more).state_dict()
    assert one.keys() != other.keys()
    common = [name for name in one.keys() & other.keys() if one[name].shape == other[name].shape]
    assert len(common) > 5 and all(torch.equal(one[name], other[name]) for name in common)


@both
def test_another_component_changes_no_weights(build):
    other = build_parts(compose.compose(["activation=relu", "normalization=none", "placement=post", "dropout=0.2"]).cfg)
    one, two = build().state_dict(), build(other).state_dict()
    drawn = [name for name in two if two[name].ndim >= 2]
    assert drawn and all(torch.equal(one[name], two[name]) for name in drawn)


@both
def test_layers_of_one_shape_start_differently(build):
    weights = [w for w in build(with_parts(zero_output=False)).state_dict().values() if w.ndim >= 2 and w.any()]
    for i, one in enumerate(weights):
        assert not any(one.shape == other.shape and torch.equal(one, other) for other in weights[:i])


@both
def test_weight_normalization_leaves_the_start_as_it_is(build):
    """And layers that start at zero have none, since a zero vector has no direction."""
    normed = build_parts(
        compose.compose(["weight_normalization=weight_norm", "normalization=layer_norm", "zero_output=false"]).cfg
    )
    plain = build_parts(compose.compose(["normalization=layer_norm", "zero_output=false"]).cfg)
    x = inputs()
    model = build(normed)
    torch.testing.assert_close(model(*x), build(plain)(*x), rtol=1e-4, atol=1e-5)
    assert any("parametrizations" in name for name in model.state_dict())
    zeroed = build(replace(normed, zero_output=True))
    assert zeroed(*x).abs().max() == 0 and all(p.isfinite().all() for p in zeroed.parameters())


# ---------------------------------------------------------------- every option in every place

NORMALIZATIONS = catalog.options("normalization")


def chosen(**options: str) -> dict:
    """Factories of options by kind, with their defaults."""
    return {kind: partial(catalog.build, kind, option) for kind, option in options.items()}


@pytest.mark.parametrize("weight_normalization", catalog.options("weight_normalization"))
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@both
def test_normalization_and_weight_normalization_combine_freely(build, normalization, weight_normalization):
    options = chosen(normalization=normalization, weight_normalization=weight_normalization)
    model = build(with_parts(zero_output=False, **options))
    y = model(*inputs())
    assert y.isfinite().all() and y.abs().max() > 1e-6
    y.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@both
def test_every_placement_acts_with_every_normalization(build, normalization):
    """But for a norm that does nothing, which is everywhere the same."""
    parts = [with_parts(zero_output=False, placement=p, **chosen(normalization=normalization)) for p in PLACEMENTS]
    outputs = [build(part)(*inputs()) for part in parts]
    empty = isinstance(parts[0].residual.normalization(4), nn.Identity)
    for i, one in enumerate(outputs):
        assert all(torch.equal(one, other) if empty else (one - other).abs().max() > 1e-4 for other in outputs[:i])


@pytest.mark.parametrize("feed_forward", catalog.options("feed_forward"))
@both
def test_every_feed_forward_takes_a_step(build, feed_forward):
    model = stirred(build(with_parts(**chosen(feed_forward=feed_forward))))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(5):
        losses.append(model(*inputs()).square().mean())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]
