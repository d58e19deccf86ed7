"""Every initializer: mean, variance and bound of its weights against the formula; the automatic gain."""

import math

import pytest
import torch

from denoise.config import catalog
from denoise.errors import UserError
from denoise.initializer.library import auto_gain, resolve_gain
from tests import formulas
from tests.formulas.initializer import gain_of

OPTIONS = catalog.options("initializer")
ACTIVATIONS = catalog.options("activation")
SHAPES = {"linear": (512, 256), "conv": (128, 64, 3, 3)}
GAINS = [
    (option, gain)
    for option in OPTIONS
    if "gain" in catalog.entry("initializer", option).parameters
    for gain in ("auto", "torch", 1.7)
]
CASES = [(option, None) for option in OPTIONS] + GAINS


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(("option", "gain"), CASES)
def test_weights_follow_the_law(option, gain, shape):
    """Tolerances are six standard errors of n draws; tanh is the activation that follows."""
    formula = formulas.find("initializer", option)
    given = {} if gain is None else {"gain": gain}
    parameters = {**catalog.entry("initializer", option).parameters, **given}
    if "gain" in parameters:
        parameters["gain"] = gain_of(parameters["gain"], "tanh")
    law = formula(shape, **parameters)
    torch.manual_seed(0)
    weight = torch.full(shape, math.nan)
    stage = catalog.build("initializer", option, weight, catalog.build("activation", "tanh"), **given)
    assert stage is None or callable(stage.finish)
    weight, n = weight.double(), weight.numel()
    assert weight.mean().item() == pytest.approx(law.mean, rel=1e-6, abs=6 * math.sqrt(law.variance / n))
    relative = 6 * math.sqrt((law.kurtosis - 1) / n)
    assert weight.var().item() == pytest.approx(law.variance, rel=relative, abs=1e-12)
    if math.isfinite(law.bound):
        assert 0.99 * law.bound <= weight.abs().max() <= law.bound * (1 + 1e-6)
        assert not law.variance or weight.unique().numel() > n / 4  # drawn one by one
    else:
        assert weight.abs().max() > 3 * math.sqrt(law.variance)  # not uniform, whose bound is 1.73


@pytest.mark.parametrize("option", OPTIONS)
def test_searched_parameters_act(option):
    entry = catalog.entry("initializer", option)
    for name, domain in entry.space.items():
        drawn = []
        for value in (domain["low"], domain["high"]):
            torch.manual_seed(0)
            weight = torch.zeros(16, 16)
            catalog.build("initializer", option, weight, torch.nn.ReLU(), **{name: value})
            drawn.append(weight)
        assert not torch.equal(*drawn), f"{option}: {name} does nothing"


def identity(n: int) -> torch.Tensor:
    return torch.eye(n, dtype=torch.float64)


def gram(matrix: torch.Tensor) -> torch.Tensor:
    """The products of the rows where there are fewer of them, else of the columns."""
    rows, columns = matrix.shape
    return matrix @ matrix.T if rows <= columns else matrix.T @ matrix


@pytest.mark.parametrize("shape", [(8, 20), (20, 8), (16, 4, 3, 3)])
@pytest.mark.parametrize(("option", "gain"), [("orthogonal", 1.5), ("lsuv", None)])
def test_orthogonal_rows_or_columns(option, gain, shape):
    weight = torch.zeros(shape)
    catalog.build("initializer", option, weight, torch.nn.ReLU(), **({"gain": gain} if gain else {}))
    product = gram(weight.flatten(1).double() / (gain or 1))
    torch.testing.assert_close(product, identity(len(product)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(8, 8, 3, 3), (16, 4, 3, 3), (4, 16, 5, 3), (6, 6, 1, 1), (12, 5)])
def test_delta_orthogonal_has_one_orthogonal_tap(shape):
    weight = torch.zeros(shape)
    catalog.build("initializer", "delta_orthogonal", weight, torch.nn.ReLU(), gain=1.5)
    taps = weight.double().reshape(*shape[:2], -1)
    centre = taps[..., taps.shape[2] // 2] / 1.5
    torch.testing.assert_close(gram(centre), identity(min(shape[:2])), rtol=0, atol=1e-5)
    assert torch.count_nonzero(taps) == torch.count_nonzero(centre)


def test_delta_orthogonal_keeps_the_length_of_every_image():
    """The isometry it is made for, in <= out; a kernel without a centre is orthogonal as a whole."""
    weight = torch.zeros(16, 8, 3, 3)
    catalog.build("initializer", "delta_orthogonal", weight, torch.nn.ReLU())
    x = torch.randn(5, 8, 6, 6)
    y = torch.nn.functional.conv2d(x, weight, padding=1)
    torch.testing.assert_close(y.square().sum(dim=(1, 2, 3)), x.square().sum(dim=(1, 2, 3)))
    patches = torch.zeros(16, 3, 2, 2)
    catalog.build("initializer", "delta_orthogonal", patches, torch.nn.ReLU())
    torch.testing.assert_close(gram(patches.flatten(1).double()), identity(12), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("shape", "kept"), [((7, 40), 10), ((7, 4, 3, 3), 9), ((40, 2), 1)])
def test_sparse_leaves_every_unit_equally_many_inputs(shape, kept):
    weight = torch.zeros(shape)
    catalog.build("initializer", "sparse", weight, torch.nn.ReLU(), sparsity=0.75)
    rows = weight.flatten(1) != 0
    assert (rows.sum(dim=1) == kept).all()
    assert len({tuple(row.tolist()) for row in rows}) > 1, "each unit has inputs of its own"


def test_gain_of_relu_and_of_nothing():
    assert auto_gain(torch.nn.ReLU()) == pytest.approx(math.sqrt(2), rel=1e-5)
    assert auto_gain(torch.nn.Identity()) == pytest.approx(1, rel=1e-9)


def phi(z: torch.Tensor) -> torch.Tensor:
    return (1 + torch.erf(z / math.sqrt(2))) / 2


def squared_slope(lower: float, upper: float) -> float:
    return torch.linspace(lower, upper, 100_001, dtype=torch.float64).square().mean().item()


# E[f(z)^2] over the draws of those that draw in training
DRAWN = {
    "gelu_stochastic": lambda z: z**2 * phi(z),
    "rrelu": lambda z, lower, upper: z**2 * torch.where(z < 0, squared_slope(lower, upper), 1.0),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_auto_gain_is_the_integral_of_the_square_in_training(activation):
    parameters = catalog.entry("activation", activation).parameters
    f = formulas.find("activation", activation)
    z = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    weight = (-(z**2) / 2).exp() / math.sqrt(2 * math.pi) * (z[1] - z[0])
    square = DRAWN[activation](z, **parameters) if activation in DRAWN else f(z[None], **parameters)[0] ** 2
    wanted = (square * weight).sum().item() ** -0.5
    assert auto_gain(catalog.build("activation", activation)) == pytest.approx(wanted, rel=1e-5)


def test_auto_gain_of_what_draws_by_itself_is_found_by_drawing():
    """Any module that draws in training, such as torch's own; torch's generator is left as it was."""
    torch.manual_seed(3)
    wanted = torch.rand(())
    torch.manual_seed(3)
    own, theirs = catalog.build("activation", "rrelu"), torch.nn.Sequential(torch.nn.RReLU(1 / 8, 1 / 3))
    assert auto_gain(theirs) == pytest.approx(auto_gain(own), rel=1e-3)
    assert auto_gain(torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Dropout(0.5))) == pytest.approx(1, rel=2e-3)
    assert torch.equal(torch.rand(()), wanted)


@pytest.mark.parametrize("slope", [0.01, 0.2, 0.3])
def test_gain_torch_is_torchs_with_its_slope(slope):
    for name, f, parameter in (
        ("leaky_relu", torch.nn.LeakyReLU(slope), slope),
        ("linear", torch.nn.Identity(), None),
        *((name, catalog.build("activation", name), None) for name in ("relu", "tanh", "sigmoid", "selu")),
    ):
        assert resolve_gain("torch", f) == torch.nn.init.calculate_gain(name, parameter)
    assert resolve_gain("torch", torch.nn.LeakyReLU(0.2)) == pytest.approx(1.3867504905630728)


@torch.no_grad()
def growth(
    activation: str, option: str = "kaiming_normal", layers: int = 50, width: int = 512, rescale: bool = True, **given
) -> list[float]:
    """The second moment behind each linear layer in training; `rescale` brings each image to 1 before the next."""
    f = catalog.build("activation", activation).train()
    h, met = torch.randn(64, width), []
    for _ in range(layers):
        weight = torch.empty(width, width)
        catalog.build("initializer", option, weight, f, **given)
        h = f(h) @ weight.T
        met.append(h.square().mean().item())
        if rescale:
            h = h / h.square().mean(dim=1, keepdim=True).sqrt()
    return met


def moment(activation: str, power: int, scale: float = 1.0) -> float:
    """E[f(scale z)^power], z ~ N(0, 1)."""
    f = catalog.build("activation", activation).double().eval()
    z = torch.linspace(-12, 12, 4801, dtype=torch.float64)
    weight = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    return (f(scale * z[None, :, None])[0, :, 0].detach() ** power * weight).sum().item()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_auto_gain_keeps_the_second_moment_through_50_layers(activation):
    """Each of 50 layers, given a second moment of 1, hands on one of 1: so does their product, but for chance.

    The bound is six standard errors of a mean of 50, from the kurtosis of f(z): a gain wrong by five per cent fails.

    Started at 1 and left alone the moment stays where it was only if 1 is no unstable point: if E[f(sz)^2] grows no
    faster than s^2 there. That holds for the homogeneous (relu, leaky_relu, prelu: marginally) and for what saturates
    (tanh, sigmoid); it does not for silu, gelu or mish, which drift whatever the constant. Those need a normalization
    or residual branches, as our backbones have; nothing is claimed of them here but the single layer.
    """
    torch.manual_seed(0)
    met = torch.tensor(growth(activation), dtype=torch.float64)
    error = math.sqrt((moment(activation, 4) / moment(activation, 2) ** 2 - 1) / 512 / len(met))
    assert met.mean().item() == pytest.approx(1, abs=6 * error + 0.01)
    grows = math.log(moment(activation, 2, 1.001) / moment(activation, 2, 0.999)) / (2 * math.log(1.001))
    if grows < 1 + 1e-6:
        assert 1 / 6 < growth(activation, rescale=False)[-1] < 6


def test_depth_needs_the_gain():
    """He's claim: a stack of relu keeps its variance with gain sqrt(2), and loses 2^-50 of it with Xavier's."""
    torch.manual_seed(0)
    assert 0.2 < growth("relu", rescale=False)[-1] < 5
    assert growth("relu", rescale=False, gain=1.0)[-1] < 1e-12
    for option in ("xavier_normal", "xavier_uniform", "lecun_normal", "orthogonal"):
        assert growth("relu", option, rescale=False)[-1] < 1e-12
        if "gain" in catalog.entry("initializer", option).parameters:
            assert 0.2 < growth("relu", option, rescale=False, gain="auto")[-1] < 5


def test_xavier_keeps_the_gradient_of_tanh_where_a_small_normal_loses_it():
    """Glorot's claim, near 0 where tanh is linear: Xavier keeps what goes forward; std 0.02 at width 512 does not."""
    torch.manual_seed(0)
    assert growth("tanh", "xavier_normal", layers=10, rescale=False)[-1] > 0.02
    assert growth("tanh", "normal", layers=10, rescale=False)[-1] < 1e-3
    assert 0.2 < growth("tanh", rescale=False)[-1] < 5


@pytest.mark.parametrize(("option", "learns"), [("zeros", False), ("constant", True), ("normal", True)])
def test_equal_weights_stay_equal(option, learns):
    """Units that start equal get equal gradients; with all weights zero there are none."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 8), torch.nn.Tanh())
    model.append(torch.nn.Linear(8, 3))
    for layer in model[::2]:
        catalog.build("initializer", option, layer.weight, torch.nn.Tanh())
        torch.nn.init.zeros_(layer.bias)
    before = [layer.weight.detach().clone() for layer in model[::2]]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(20):
        optimizer.zero_grad()
        (model(torch.randn(32, 6)) - torch.tensor([1.0, -1.0, 0.5])).square().mean().backward()
        optimizer.step()
    hidden = [layer.weight.detach() for layer in model[:4:2]]
    assert all(torch.equal(old, layer.weight) for old, layer in zip(before, model[::2], strict=True)) == (not learns)
    equal = all((weight - weight[:1]).abs().max() < 1e-6 for weight in hidden)
    assert equal == catalog.entry("initializer", option).control


def test_gains_that_are_none_are_refused():
    weight = torch.zeros(4, 4)
    with pytest.raises(UserError, match="gain=auto"):
        catalog.build("initializer", "kaiming_normal", weight, torch.nn.Mish(), gain="torch")
    with pytest.raises(UserError, match="legal: auto, torch"):
        catalog.build("initializer", "kaiming_normal", weight, torch.nn.ReLU(), gain="large")
