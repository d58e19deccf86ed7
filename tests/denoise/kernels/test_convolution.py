"""Convolutions done as products of matrices: torch's numbers, in the layout of the maps."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from denoise.kernels import convolution
from denoise.kernels.convolution import Last, Pointwise

LAST = torch.channels_last


@pytest.fixture(autouse=True)
def _by_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """By products on any processor that can."""
    monkeypatch.setattr(convolution, "PRODUCTS", torch.backends.mkl.is_available())


def both(kind: str, dim: int, out: int, bias: bool = True) -> tuple[nn.Conv2d, nn.Conv2d]:
    """The layer in channels_last, and torch's with the same weights in float64."""
    torch.manual_seed(0)
    layer: nn.Conv2d = Pointwise(dim, out, 1) if kind == "pointwise" else Last(dim, out, 3, padding=1)
    if not bias:
        layer.bias = None
    side = layer.kernel_size[0]
    plain = nn.Conv2d(dim, out, side, padding=side // 2, bias=bias, dtype=torch.float64)
    plain.load_state_dict(layer.state_dict())
    return layer.to(memory_format=LAST), plain  # type: ignore[call-overload]


def operators(layer: nn.Module, x: Tensor) -> str:
    """What the counter of operations saw of a forward pass."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer(x)
    return " ".join(str(name) for name in counter.get_flop_counts()["Global"])


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([("pointwise", 1), ("pointwise", 7), ("last", 1), ("last", 3)]),
    st.tuples(st.integers(1, 9), st.integers(1, 20), st.integers(1, 9), st.integers(1, 9)),
    st.booleans(),
)
@example(("last", 1), (64, 32, 8, 8), True)
@example(("last", 1), (2, 3, 1, 1), True)
def test_value_and_gradients_are_torchs(kind: tuple[str, int], shape: tuple[int, int, int, int], bias: bool) -> None:
    layer, plain = both(kind[0], shape[1], kind[1], bias)
    x = torch.randn(shape).contiguous(memory_format=LAST).requires_grad_()
    exact = x.detach().double().requires_grad_()
    y, expected = layer(x), plain(exact)
    assert y.shape == expected.shape and y.is_contiguous(memory_format=LAST)
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)
    pull = torch.randn_like(y)
    y.backward(pull)
    expected.backward(pull.double())
    assert x.grad is not None and exact.grad is not None
    torch.testing.assert_close(x.grad.double(), exact.grad, rtol=1e-5, atol=1e-5)
    scale = (shape[0] * shape[2] * shape[3]) ** 0.5
    for mine, theirs in zip(layer.parameters(), plain.parameters(), strict=True):
        assert mine.grad is not None and theirs.grad is not None
        torch.testing.assert_close(mine.grad.double(), theirs.grad, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="torch without MKL")
@pytest.mark.parametrize("kind", ["pointwise", "last"])
def test_it_is_a_product_and_counts_the_same(kind: str) -> None:
    layer, _ = both(kind, 32, 1)
    x = torch.randn(8, 32, 8, 8).contiguous(memory_format=LAST)
    assert "convolution" not in operators(layer, x)
    counts = []
    for forward in (layer, nn.Conv2d.forward.__get__(layer)):
        with FlopCounterMode(display=False) as counter:
            forward(x.requires_grad_()).sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="torch without MKL")
@pytest.mark.parametrize("kind", ["pointwise", "last"])
@pytest.mark.parametrize("why", ["processor", "order", "double", "half", "autocast", "colours"])
def test_all_else_is_torchs_own(kind: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, _ = both(kind, 32, 3 if why == "colours" else 1)
    x = torch.randn(8, 32, 8, 8).contiguous(memory_format=LAST)
    if why == "processor":
        monkeypatch.setattr(convolution, "PRODUCTS", False)
    elif why == "order":
        x = x.contiguous()
    elif why == "double":
        layer, x = layer.double(), x.double()
    elif why == "half":
        layer, x = layer.bfloat16(), x.bfloat16()
    with torch.autocast("cpu", enabled=why == "autocast"):
        assert ("convolution" in operators(layer, x)) != (why == "colours" and kind == "pointwise")


@pytest.mark.parametrize("kind", ["pointwise", "last"])
def test_it_is_torchs_layer(kind: str) -> None:
    """So that initializers, weight normalizations and looks at the layers find it, and old weights fit."""
    layer, plain = both(kind, 3, 5)
    assert isinstance(layer, nn.Conv2d)
    assert [t.shape for t in layer.state_dict().values()] == [t.shape for t in plain.state_dict().values()]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["pointwise", "last"])
def test_a_compiled_graph_is_not_broken(kind: str) -> None:
    layer, plain = both(kind, 8, 1)
    x = torch.randn(2, 8, 4, 4).contiguous(memory_format=LAST)
    whole = torch.compile(layer, backend="eager", fullgraph=True)
    torch.testing.assert_close(whole(x).double(), plain(x.double()), rtol=1e-5, atol=1e-5)
