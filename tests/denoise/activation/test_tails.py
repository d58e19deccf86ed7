"""Own activations from denormal numbers to the largest: value and derivative against formulas in 400 digits."""

from collections.abc import Callable

import mpmath as mp
import pytest
import torch
from torch import Tensor

from denoise.activation.elementwise import Elementwise
from denoise.config import catalog
from tests import formulas

OPTIONS = catalog.options("activation")
# of gelu_sigma both are torch's gelu, whose own tail is lost: (1 + erf) / 2
TORCHS = {"gelu_sigma"}
OWN = [o for o in OPTIONS if isinstance(catalog.build("activation", o), Elementwise) and o not in TORCHS]
# smallest and largest power of ten, what may be lost of a number, and what no longer counts
RANGES = {torch.float32: (-45, 38, 1e-4, 1e-36), torch.float64: (-45, 45, 1e-8, 1e-150)}
# by so many units of 1 a derivative may be off whose terms cancel: snake's has zeros of its own; gelu_cauchy's falls as
# 2 / (3 pi |x|^3) below 0, and a series there would cost too much; that of srs as e^(-x / beta) above
CANCELS = {"snake": 8, "gelu_cauchy": 0.1, "srs": 1}


def grid(kind: torch.dtype) -> Tensor:
    low, high, *_ = RANGES[kind]
    sizes = [1.7 * 10.0**power for power in range(low, high + 1)] + [1.37 * i + 0.21 for i in range(75)]
    x = torch.tensor(sizes, dtype=torch.float64).to(kind)
    return torch.cat([-x, x])


def exact(formula: Callable[[mp.mpf], mp.mpf], x: float) -> tuple[mp.mpf, mp.mpf]:
    """f(x) and f'(x), by a central difference."""
    point = mp.mpf(x)
    step = min(abs(point), 1) * mp.mpf(10) ** -30
    return formula(point), (formula(point + step) - formula(point - step)) / (2 * step)


@pytest.mark.parametrize("kind", RANGES, ids=str)
@pytest.mark.parametrize("option", OWN)
def test_value_and_derivative_keep_their_digits(option, kind):
    """Where a factor such as a sigmoid has left the normal numbers, as torch's in silu has, so has the result."""
    formula = formulas.find("activation", option)
    parameters, (*_, lost, floor) = dict(catalog.entry("activation", option).parameters), RANGES[kind]
    floors, top = {"f": floor, "f'": max(floor, CANCELS.get(option, 0) * torch.finfo(kind).eps)}, torch.finfo(kind).max
    torch.set_default_dtype(kind)
    try:
        module = catalog.build("activation", option)
    finally:
        torch.set_default_dtype(torch.float32)
    x = grid(kind).requires_grad_()
    y = module(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    with mp.workdps(400):
        for one, *found in zip(x.tolist(), y.tolist(), slope.tolist(), strict=True):
            wanted = exact(lambda v: formula(v, **parameters), one)
            for name, mine, theirs in zip(floors, found, wanted, strict=True):
                if abs(theirs) < top:
                    assert abs(mine - theirs) <= lost * abs(theirs) + floors[name], (
                        f"{name}({one}): {mine}, not {theirs}"
                    )


def test_pau_goes_on_straight_where_powers_overflow():
    """Also for what it learns: as in float64, whose bound lies further out."""
    x, found = torch.tensor([-1e12, -1e8, -1e6, 1e6, 1e8, 1e12]), []
    for kind in (torch.float32, torch.float64):
        module = catalog.build("activation", "pau").to(kind)
        for one in x:
            y = module(one.to(kind)[None])
            found.append(
                [y.detach().double(), *(g.double() for g in torch.autograd.grad(y.sum(), module.parameters()))]
            )
    for mine, theirs in zip(found[: len(x)], found[len(x) :], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
