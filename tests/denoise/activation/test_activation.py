"""Every activation against its formula in float64. One test for all: an option is a file and a formula."""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import scipy.optimize
import torch
from omegaconf import OmegaConf
from torch import Tensor

from benchmarks.activations import PLAIN
from denoise.activation.elementwise import Elementwise
from denoise.activation.learned import PAU_DENOMINATOR, PAU_NUMERATOR
from denoise.config import catalog, compose
from denoise.errors import UserError
from denoise.model.block import Parts
from denoise.model.dit import DiT
from denoise.model.initialize import initialize
from denoise.model.unet import UNet
from denoise.randomness import Clock, Stochastic, attach
from denoise.training.build import build_parts
from tests import formulas
from tests.formulas.activation import ACTIVATION

OPTIONS = catalog.options("activation")
SPACES = [(option, name) for option in OPTIONS for name in catalog.entry("activation", option).space]
# each option as its file has it, and with each of its switches the other way
VARIANTS = [(option, {}) for option in OPTIONS] + [
    (option, {name: not value})
    for option in OPTIONS
    for name, value in catalog.entry("activation", option).parameters.items()
    if isinstance(value, bool)
]
LARGE = [20.3, 50.7, 100.9, 1000.3]
# off the integers, where a formula may have a kink; one sample, (1, N)
GRID = torch.cat([torch.linspace(-6, 6, 121) + 0.0137, torch.tensor(LARGE), -torch.tensor(LARGE)]).double()[None]
SHAPES = pytest.mark.parametrize("shape", [(2, 4, 3, 5), (2, 6, 4), (3, 4)], ids=["map", "tokens", "embedding"])
CHANNELS = 4  # of each of the shapes


@contextmanager
def double() -> Iterator[None]:
    """Parameters are made in float64, so that they start where they are told to."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def build(option: str, *args: int, **parameters: float) -> torch.nn.Module:
    with double():
        return catalog.build("activation", option, *args, **parameters).double().eval()


def of(wanted: type) -> list[str]:
    return [option for option in OPTIONS if isinstance(catalog.build("activation", option), wanted)]


PARTS = build_parts(compose.compose(["normalization=layer_norm"]).cfg)
OWN, STOCHASTIC = of(Elementwise), of(Stochastic)


def within(domain: dict, share: float) -> float:
    """A value of a domain: the option or the number `share` of the way through it."""
    if domain["type"] == "categorical":
        return domain["choices"][round(share * (len(domain["choices"]) - 1))]
    low, high = domain["low"], domain["high"]
    value = low * (high / low) ** share if domain.get("log") else low + share * (high - low)
    return round(value) if domain["type"] == "int" else value


def slope(f, x: Tensor, step: float = 1e-4) -> Tensor:
    """d sum(f(x)) / dx, entry by entry, by central differences of fourth order."""
    result = torch.empty_like(x)
    for i in range(x.numel()):
        total = 0.0
        for factor, move in ((8, step), (-8, -step), (-1, 2 * step), (1, -2 * step)):
            moved = x.clone()
            moved.view(-1)[i] += move
            total += factor * (f(moved) - f(x)).sum().item()
        result.view(-1)[i] = total / (12 * step)
    return result


# ---------------------------------------------------------------- the contract


@pytest.mark.parametrize("option", OPTIONS)
def test_value_and_gradient_follow_the_formula(option):
    formula = formulas.find("activation", option)
    parameters = dict(catalog.entry("activation", option).parameters)
    x = GRID.clone().requires_grad_()
    y = build(option)(x)
    torch.testing.assert_close(y.detach(), formula(GRID, **parameters), rtol=1e-9, atol=1e-8)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient, slope(lambda v: formula(v, **parameters), GRID), rtol=1e-6, atol=1e-6)


def test_an_activation_of_maths_that_is_there_needs_its_file_alone(monkeypatch):
    """Without a formula of its name it has torch's in float64, or that of an option with the same maths."""
    table, entry = dict(ACTIVATION), catalog.entry
    kept = {name: f for name, f in table.items() if name not in ("gelu_tanh", "elliott")}
    monkeypatch.setattr("tests.formulas.activation.ACTIVATION", kept)
    found, wanted = formulas.find("activation", "gelu_tanh"), table["gelu_tanh"]
    torch.testing.assert_close(found(GRID, approximate="tanh"), wanted(GRID, approximate="tanh"))
    with pytest.raises(pytest.fail.Exception, match="no formula for elliott"):
        formulas.find("activation", "elliott")
    monkeypatch.setattr(catalog, "entry", lambda kind, option: entry(kind, "snake" if option == "elliott" else option))
    assert formulas.find("activation", "elliott") is table["snake"]


@pytest.mark.parametrize("option", OPTIONS)
def test_single_precision_stays_finite_far_out(option):
    x = torch.tensor([[-1e4], [-100.0], [-30.0], [0.0], [30.0], [100.0], [1e4]], requires_grad=True)
    module = catalog.build("activation", option)
    y = module(x)
    y.sum().backward()
    assert y.isfinite().all() and x.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())


@pytest.mark.parametrize("option", OPTIONS)
@SHAPES
def test_shape_is_kept_and_learned_parameters_learn(option, shape):
    module = catalog.build("activation", option)
    torch.manual_seed(0)
    y = module(torch.randn(shape))
    assert y.shape == shape and y.dtype == torch.float32
    weight = torch.randn(shape)
    for name, parameter in module.named_parameters():
        (gradient,) = torch.autograd.grad((y * weight).sum(), parameter, retain_graph=True)
        assert gradient.abs().min() > 1e-6, f"{option}: a number of {name} gets no gradient"


@pytest.mark.parametrize(("option", "switched"), VARIANTS)
@SHAPES
def test_what_is_learned_per_channel_acts_on_its_channel(option, switched, shape):
    """Told the channels, an activation gives the same; then what grew with them moves one channel and no other."""
    module, alone = (catalog.build("activation", option, *told, **switched).eval() for told in ([CHANNELS], []))
    torch.manual_seed(0)
    x = torch.randn(shape)
    before = module(x)
    torch.testing.assert_close(before, alone(x), rtol=0, atol=0)
    assert all(parameter.ndim < 2 for parameter in module.parameters()), "it would get weight decay"
    pairs = zip(module.parameters(), alone.parameters(), strict=True)
    grown = [parameter for parameter, one in pairs if parameter.shape != one.shape]
    assert grown or not switched.get("per_channel"), "per_channel does nothing"
    for parameter in grown:
        with torch.no_grad():
            parameter.view(-1, CHANNELS)[:, 1] += 0.5
        moved = (module(x) - before).abs()
        moved = moved.movedim(1 if x.ndim == 4 else -1, 0).flatten(1).amax(1)
        assert moved[1] > 0 and (moved[[0, 2, 3]] == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("option", OPTIONS)
def test_half_precision_in_half_precision_out(option, dtype):
    """The learned parameters stay in single precision."""
    torch.manual_seed(0)
    x = torch.randn(3, CHANNELS, 5, 5).to(dtype)
    module = catalog.build("activation", option, CHANNELS).eval()
    given = x.clone().requires_grad_()
    y = module(given)
    y.float().square().sum().backward()
    assert y.dtype == given.grad.dtype == dtype
    assert all(parameter.grad.dtype == torch.float32 for parameter in module.parameters())
    wanted = formulas.find("activation", option)(x.double(), **catalog.entry("activation", option).parameters)
    unit = torch.finfo(dtype).eps
    torch.testing.assert_close(y.double().detach(), wanted, rtol=2 * unit, atol=2 * unit)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(("option", "name"), SPACES)
def test_each_searched_parameter_acts_as_in_the_formula(option, name, share):
    entry = catalog.entry("activation", option)
    parameters = {**entry.parameters, name: within(entry.space[name], share)}
    y = build(option, **parameters)(GRID).detach()
    torch.testing.assert_close(y, formulas.find("activation", option)(GRID, **parameters), rtol=1e-9, atol=1e-8)
    others = [build(option, **{name: within(entry.space[name], s)})(GRID) for s in (0.0, 0.4, 1.0) if s != share]
    assert all((y - other).abs().max() > 1e-3 for other in others)


@pytest.mark.parametrize("option", OPTIONS)
def test_file_gives_formula_and_source(option):
    entry = catalog.entry("activation", option)
    assert entry.formula and entry.source and entry.target
    assert set(entry.space) <= set(entry.parameters)


# ---------------------------------------------------------------- as modules


@pytest.mark.parametrize("option", OPTIONS)
def test_copies_and_blank_tensors(option):
    """A copy learns by itself; without storage, as operations are counted, an activation runs both ways."""
    module = catalog.build("activation", option, CHANNELS)
    other = copy.deepcopy(module)
    assert all(a is not b for a, b in zip(module.parameters(), other.parameters(), strict=True))
    blank = other.to("meta").eval()
    x = torch.empty(2, CHANNELS, 3, 3, device="meta", requires_grad=True)
    blank(x).sum().backward()
    assert x.grad.shape == x.shape and all(p.grad is not None for p in blank.parameters())


def test_compiles_as_one_graph():
    model = torch.nn.Sequential(*(catalog.build("activation", option, CHANNELS) for option in OWN)).double()
    x = torch.linspace(-2, 2, 24).double().view(2, 3, CHANNELS).requires_grad_()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    y, wanted = compiled(x), model(x)
    torch.testing.assert_close(y, wanted)
    inputs = [x, *model.parameters()]
    for one, other in zip(torch.autograd.grad(y.sum(), inputs), torch.autograd.grad(wanted.sum(), inputs), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("option", sorted(set(PLAIN) - set(STOCHASTIC)))
def test_the_benchmark_compares_with_the_same_function(option):
    torch.manual_seed(0)
    x = torch.randn(2, CHANNELS, 3, 3).double()
    module = build(option, CHANNELS)
    torch.testing.assert_close(module(x), PLAIN[option](x, module))


# ---------------------------------------------------------------- what draws


@pytest.mark.parametrize("option", STOCHASTIC)
def test_draws_come_from_the_keyed_stream(option):
    x = torch.randn(4, 8, 6, 6, generator=torch.Generator().manual_seed(0))

    def drawn(seed: int, step: int, name: str = "a") -> Tensor:
        model = torch.nn.ModuleDict({name: catalog.build("activation", option, 8)})
        attach(model, Clock(seed, step))
        torch.rand(7)  # what else draws from the global generator is of no account
        return model[name](x)

    assert torch.equal(drawn(0, 3), drawn(0, 3))
    for other in (drawn(0, 4), drawn(1, 3), drawn(0, 3, "b")):
        assert not torch.equal(drawn(0, 3), other)


@pytest.mark.parametrize("option", STOCHASTIC)
def test_evaluation_is_the_mean_over_draws(option):
    module = catalog.build("activation", option)
    torch.manual_seed(0)
    x, draws = GRID[:, :121].float(), 20_000
    y = module(x.expand(draws, -1))
    far = (y.mean(0) - module.eval()(x)[0]).abs()
    rare = 20 * x[0].abs() / draws  # what falls in so few draws has no standard deviation yet
    assert (far <= 5 * y.std(0) / math.sqrt(draws) + rare).all()
    assert y.std(0).max() > 0.1


def test_gelu_stochastic_keeps_or_drops():
    module = catalog.build("activation", "gelu_stochastic")
    torch.manual_seed(0)
    x = torch.randn(1000, requires_grad=True)
    y = module(x[None])[0]
    kept = y != 0
    assert torch.equal(y[kept], x[kept]) and 0 < kept.sum() < 1000
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(gradient, kept.float())


def test_rrelu_draws_its_slopes_within_bounds():
    module = catalog.build("activation", "rrelu", lower=0.2, upper=0.4)
    torch.manual_seed(0)
    x = torch.randn(1, 10_000)
    slopes = (module(x) / x)[x < 0]
    assert slopes.min() >= 0.2 and slopes.max() <= 0.4 and slopes.max() - slopes.min() > 0.19
    assert torch.equal(module(x)[x > 0], x[x > 0])


# ---------------------------------------------------------------- in a backbone


@pytest.mark.parametrize("backbone", [UNet, DiT])
@pytest.mark.parametrize("option", OPTIONS)
def test_a_backbone_takes_a_step_with_it(option, backbone):
    entry = catalog.entry("activation", option)
    node = OmegaConf.create({"_target_": entry.target, **entry.parameters, "space": {}})
    part = replace(PARTS.residual, activation=catalog.factory("activation", node))
    parts = Parts(part, part, part, zero_output=False)
    small = {"width": 4} if backbone is UNet else {"dim": 8, "depth": 1}
    model = backbone((8, 8), 1, 0, parts, num_heads=2, embedding_dim=8, **small)
    initialize(model, parts, 0)
    found = [module for module in model.modules() if getattr(module, "kind", None) == "activation"]
    assert len(found) > 2
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():  # nothing stays at zero
            parameter.add_(0.1 * torch.randn(parameter.shape))
    x = torch.randn(3, 1, 8, 8)

    def loss() -> Tensor:
        return (model(x, torch.randn(3, generator=torch.Generator().manual_seed(1))) - 1).square().mean()

    before = loss()
    before.backward()
    assert before.isfinite() and all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    for module in found:
        assert all(parameter.grad.abs().max() > 0 for parameter in module.parameters())
    with torch.no_grad():
        squares = sum(p.grad.square().sum() for p in model.parameters())
        for parameter in model.parameters():
            parameter -= 1e-3 * parameter.grad / squares.sqrt()
    if not any(isinstance(module, Stochastic) for module in found):
        assert loss() < before


# ---------------------------------------------------------------- what is said of them


def test_swish_at_beta_one_is_silu_and_learns_beta():
    swish = build("swish")
    torch.testing.assert_close(swish(GRID), build("silu")(GRID))
    assert [name for name, _ in swish.named_parameters()] == ["beta"]


def test_swish_tends_to_relu_and_to_half_of_x():
    x = GRID[:, :121]
    torch.testing.assert_close(build("swish", beta=1e4)(x), x.clamp(min=0), rtol=0, atol=1e-4)
    torch.testing.assert_close(build("swish", beta=1e-6)(x), x / 2, rtol=0, atol=1e-4)


def test_gelu_sigma_is_gelu_at_one_and_tends_to_relu():
    torch.testing.assert_close(build("gelu_sigma")(GRID), build("gelu")(GRID))
    far = [(build("gelu_sigma", sigma=sigma)(GRID) - GRID.clamp(min=0)).abs().max() for sigma in (1, 0.1, 0.01, 1e-6)]
    assert far[0] > far[1] > far[2] > far[3] and far[3] < 1e-6
    x = torch.tensor([[-1e4, -1.0, 1.0, 1e4]], requires_grad=True)
    y = catalog.build("activation", "gelu_sigma", sigma=1e-6)(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(y.detach(), x.detach().clamp(min=0))
    torch.testing.assert_close(gradient, torch.tensor([[0.0, 0.0, 1.0, 1.0]]))


def test_mish_holds_far_out():
    """Its e^x is bounded: beyond, on both sides, value and slope are those of torch's in float64."""
    x = torch.tensor([-1e4, -200.0, -100.0, -87.0, -30.0, -20.0, 19.9, 20.0, 20.1, 44.0, 89.0, 1e4, 1e30])
    mine, exact = x.clone().requires_grad_(), x.double().requires_grad_()
    y, wanted = build("mish")(mine), torch.nn.functional.mish(exact)
    y.sum().backward()
    wanted.sum().backward()
    torch.testing.assert_close(y.double(), wanted, rtol=1e-6, atol=1e-37)
    torch.testing.assert_close(mine.grad.double(), exact.grad, rtol=1e-6, atol=1e-36)
    assert build("mish")(torch.tensor([float("nan")])).isnan().all()


@pytest.mark.parametrize("option", ["softplus", "mish", "silu", "gelu", "tanh", "sigmoid", "smelu"])
def test_smooth_ones_have_no_kink(option):
    """Near 0 and the joints the slope moves by no more than a small part of the step; relu's moves by 1."""
    assert jump(option) < 1e-3
    assert jump("relu") == 1


def jump(option: str) -> float:
    x = (torch.tensor([-1.0, 0.0, 1.0])[:, None] + torch.tensor([-1e-4, 1e-4])).double().requires_grad_()
    (gradient,) = torch.autograd.grad(build(option)(x).sum(), x)
    return gradient.diff(dim=1).abs().max().item()


@pytest.mark.parametrize("option", ["silu", "gelu", "mish"])
def test_falls_before_it_rises_and_has_a_floor(option):
    y = build(option)(GRID.sort().values)[0]
    lowest = int(y.argmin())
    assert -0.32 < y[lowest] < -0.1
    assert (y[: lowest + 1].diff() <= 0).all() and (y[lowest:].diff() >= 0).all() and 4 < lowest < 64


def test_identity_adds_nothing_and_is_left_out_of_a_search():
    assert torch.equal(build("identity")(GRID), GRID)
    assert catalog.entry("activation", "identity").control


def test_brelu_is_bounded_and_star_relu_starts_normalized():
    assert build("brelu", bound=2.5)(GRID).max() == 2.5
    z = torch.linspace(-12, 12, 4801).double()
    weight = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    y = build("star_relu")(z[None])[0]
    assert abs((y * weight).sum()) < 1e-3 and abs((y.square() * weight).sum() - 1) < 1e-3


def test_abrelu_takes_the_mean_of_each_sample():
    x = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(0)) + torch.arange(3).view(3, 1, 1, 1)
    together = build("abrelu")(x.double())
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], build("abrelu")(x[i : i + 1].double()))
        assert 0.3 < (together[i] == 0).double().mean() < 0.7


def test_abrelu_sums_a_half_precision_sample_in_single_precision():
    """65504 is the largest number of float16; the mean is 3."""
    x = (torch.randn(1, 32, 28, 28, generator=torch.Generator().manual_seed(0)) + 3).half()
    wanted = torch.relu(x.double() - x.double().mean())
    torch.testing.assert_close(build("abrelu")(x).double(), wanted, rtol=1e-3, atol=1e-4)


def test_pelu_is_elu_and_pdelu_tends_to_it():
    torch.testing.assert_close(build("pelu")(GRID), build("elu")(GRID))
    torch.testing.assert_close(build("pdelu", t=0.99999)(GRID), build("elu")(GRID), rtol=0, atol=1e-4)


def test_positive_numbers_stay_positive():
    """However far an optimizer goes: beta of srs also stays away from the pole at e alpha."""
    for option in ("pelu", "snake", "srs"):
        for far in (-30.0, 30.0):
            module = catalog.build("activation", option)
            with torch.no_grad():
                list(module.parameters())[-1].fill_(far)
            assert module(GRID.float()).isfinite().all()
    srs = catalog.build("activation", "srs")
    with torch.no_grad():
        srs.raw_beta.fill_(100.0)
    assert srs(torch.linspace(-100, 100, 2001)[None]).abs().max() < 100


def test_pau_starts_at_the_least_squares_fit_of_leaky_relu():
    x = np.linspace(-3, 3, 601)
    wanted = np.where(x > 0, x, 0.01 * x)

    def miss(c: np.ndarray) -> np.ndarray:
        return np.polyval(c[5::-1], x) / (1 + np.abs(np.polyval([*c[:5:-1], 0], x))) - wanted

    ours = np.array([*PAU_NUMERATOR, *PAU_DENOMINATOR])
    found = scipy.optimize.least_squares(miss, [0, 0.5, 0.5, 0, 0, 0, 0, 0.1, 0, 0.1], xtol=1e-12, ftol=1e-12)
    assert (miss(ours) ** 2).sum() == pytest.approx(2 * found.cost, rel=1e-6)
    np.testing.assert_allclose(ours, found.x, atol=1e-4)
    far = (build("pau")(torch.from_numpy(x)[None])[0] - torch.from_numpy(wanted)).abs()
    assert far.max() < 0.034


@pytest.mark.parametrize(
    ("option", "parameters", "said"),
    [
        ("gelu_sigma", {"sigma": 0.0}, "activation=relu"),
        ("pelu", {"a": 0.0}, "activation.a=0"),
        ("snake", {"a": -1.0}, "above 0"),
        ("srs", {"alpha": 1.0, "beta": 2.5}, "below 2 alpha"),
        ("pdelu", {"t": 1.0}, "activation=elu"),
        ("rrelu", {"lower": 0.5, "upper": 0.4}, "activation.upper"),
    ],
)
def test_what_has_no_formula_is_refused(option, parameters, said):
    with pytest.raises(UserError, match=said):
        catalog.build("activation", option, **parameters)
