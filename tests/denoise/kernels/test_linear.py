"""Linear layers over tokens: torch's numbers, by whichever way they are computed."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from denoise.kernels import linear
from denoise.kernels.linear import IMAGES, SHARE, Linear

LARGE = (16, 64, 64, 64)  # batch, tokens, in, out: a large product


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def both(shape: tuple[int, int, int, int], bias: bool = True) -> tuple[Linear, nn.Linear, Tensor]:
    """The layer, torch's with the same weights in float64, and tokens."""
    batch, tokens, fan_in, fan_out = shape
    torch.manual_seed(0)
    layer = Linear(fan_in, fan_out, bias=bias)
    plain = nn.Linear(fan_in, fan_out, bias=bias, dtype=torch.float64)
    plain.load_state_dict(layer.state_dict())
    return layer, plain, torch.randn(batch, tokens, fan_in)


def convolved(layer: Linear, x: Tensor) -> bool:
    """Whether the layer takes the convolution for these tokens."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer(x)
    return any("convolution" in str(name) for name in counter.get_flop_counts()["Global"])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 70), st.integers(1, 80), st.integers(1, 80), st.booleans())
@example(*LARGE, True)
@example(*LARGE, False)
@example(64, 1, 256, 256, True)
def test_value_and_gradients_are_torchs(batch: int, tokens: int, fan_in: int, fan_out: int, bias: bool) -> None:
    torch.set_num_threads(1)
    layer, plain, tokens_in = both((batch, tokens, fan_in, fan_out), bias)
    x, exact = tokens_in.requires_grad_(), tokens_in.detach().double().requires_grad_()
    y, expected = layer(x), plain(exact)
    assert y.is_contiguous() and y.shape == expected.shape
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)
    pull = torch.randn_like(y)
    y.backward(pull)
    expected.backward(pull.double())
    scale = (batch * tokens) ** 0.5
    torch.testing.assert_close(x.grad.double(), exact.grad, rtol=1e-5, atol=1e-5)  # type: ignore[union-attr]
    for mine, theirs in zip(layer.parameters(), plain.parameters(), strict=True):
        assert mine.grad is not None and theirs.grad is not None
        torch.testing.assert_close(mine.grad.double(), theirs.grad, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.skipif(not linear.BOTH, reason="torch without MKL or oneDNN")
def test_a_large_product_is_a_convolution_and_counts_the_same() -> None:
    layer, _, x = both(LARGE)
    assert convolved(layer, x)
    batch, tokens, fan_in, fan_out = LARGE
    assert batch >= IMAGES and batch * tokens * fan_in * fan_out >= SHARE
    counts = []
    for forward in (layer, nn.Linear.forward.__get__(layer)):
        with FlopCounterMode(display=False) as counter:
            forward(x.requires_grad_()).sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] == 3 * 2 * batch * tokens * fan_in * fan_out


@pytest.mark.skipif(not linear.BOTH, reason="torch without MKL or oneDNN")
@pytest.mark.parametrize("why", ["few images", "small", "threads", "half", "double", "autocast", "apart", "rows"])
def test_all_else_is_torchs_own(why: str) -> None:
    layer, _, x = both(LARGE)
    if why == "few images":
        x = x.view(IMAGES - 1 + 1, 64, 64)[: IMAGES - 1]
    elif why == "small":
        x = x[:, :4].contiguous()
    elif why == "threads":
        torch.set_num_threads(2)
    elif why == "half":
        layer, x = layer.bfloat16(), x.bfloat16()
    elif why == "double":
        layer, x = layer.double(), x.double()
    elif why == "apart":
        x = x.transpose(1, 2).contiguous().transpose(1, 2)
    elif why == "rows":
        x = x.flatten(0, 1)
    with torch.autocast("cpu", enabled=why == "autocast"):
        assert not convolved(layer, x)


def test_who_made_the_processor_is_read_from_the_system(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    assert not linear.by_amd(cpuinfo)
    cpuinfo.write_text("processor\t: 0\nvendor_id\t: GenuineIntel\n")
    assert not linear.by_amd(cpuinfo)
    cpuinfo.write_text("processor\t: 0\nvendor_id\t: AuthenticAMD\n")
    assert linear.by_amd(cpuinfo)


def test_a_second_derivative_goes_through() -> None:
    layer, plain, tokens = both(LARGE)
    found = []
    for module, x in ((layer, tokens), (plain, tokens.double())):
        x = x.requires_grad_()
        (first,) = torch.autograd.grad(module(x).square().sum(), module.weight, create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), module.weight)[0])
    torch.testing.assert_close(found[0].double(), found[1], rtol=1e-3, atol=1e-3 * float(found[1].abs().max()))


def test_it_is_torchs_layer() -> None:
    """So that initializers, weight normalizations and looks at the layers find it, and old weights fit."""
    layer = Linear(3, 5)
    assert isinstance(layer, nn.Linear) and list(layer.state_dict()) == list(nn.Linear(3, 5).state_dict())


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_graph_is_not_broken() -> None:
    layer, plain, x = both(LARGE)
    whole = torch.compile(layer, backend="eager", fullgraph=True)
    torch.testing.assert_close(whole(x).double(), plain(x.double()), rtol=1e-5, atol=1e-5)
