"""Every normalization against its formula in float64, on maps and on tokens."""

import pytest
import torch

from denoise.config import catalog
from denoise.errors import UserError
from tests import formulas

OPTIONS = catalog.options("normalization")
SHAPES = {"map": (4, 12, 3, 5), "tokens": (4, 15, 12)}


def positions_last(x: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) or (B, T, C) -> (B, positions, C)."""
    return x.flatten(2).transpose(1, 2) if x.ndim == 4 else x


def build(option: str, channels: int, **parameters) -> torch.nn.Module:
    """The module in float64 with its learned parameters moved off their start."""
    module = catalog.build("normalization", option, channels, **parameters).double()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return module


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name.split(".")[-1]: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def sample(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return (2 * torch.randn(shape, dtype=torch.float64) + 0.7).requires_grad_()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("option", OPTIONS)
def test_follows_the_formula(option, training, shape):
    formula = formulas.find("normalization", option)
    module = build(option, 12)
    module.train()(sample(shape, seed=5))  # moves running averages, where there are any
    module.train(training)
    state, x = weights(module), sample(shape)
    y = module(x)
    assert y.shape == x.shape
    parameters = catalog.entry("normalization", option).parameters
    wanted = formula(positions_last(x.detach()), state, training=training, **parameters)
    torch.testing.assert_close(positions_last(y.detach()), wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("option", OPTIONS)
def test_learned_parameters_and_input_get_gradients(option, shape):
    module, x = build(option, 12), sample(shape)
    torch.manual_seed(2)
    (module(x) * torch.randn(shape, dtype=torch.float64)).sum().backward()
    assert x.grad.abs().max() > 1e-6
    for name, parameter in module.named_parameters():
        assert parameter.grad.abs().max() > 1e-6, f"{option}: {name} gets no gradient"


@pytest.mark.parametrize("layout", [*SHAPES, "channels_last", "pulled across"])
@pytest.mark.parametrize("option", OPTIONS)
def test_gradients_are_those_of_the_formula(option, layout):
    """Of the input and of all that is learned, and the input's second ones, against autograd through the formula.

    In a training maps are in channels_last, and what comes back mostly is.
    """
    shape = SHAPES.get(layout, SHAPES["map"])
    module, x = build(option, 12), sample(shape)
    formula, parameters = formulas.find("normalization", option), catalog.entry("normalization", option).parameters
    pull = sample(shape, seed=3).detach()
    if layout not in SHAPES:
        x = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
        pull = pull if layout == "pulled across" else pull.contiguous(memory_format=torch.channels_last)
    learned = dict(module.named_parameters())
    state = {name.split(".")[-1]: p for name, p in learned.items()}
    exact = sample(shape)
    wanted = formula(positions_last(exact), weights(module) | state, training=True, **parameters)
    expected = torch.autograd.grad(wanted, [exact, *learned.values()], positions_last(pull), create_graph=True)
    plain = torch.autograd.grad(module(x), [x, *learned.values()], pull)
    found = torch.autograd.grad(module(x), [x, *learned.values()], pull, create_graph=True)
    for name, mine, twice, theirs in zip(["x", *learned], plain, found, expected, strict=True):
        torch.testing.assert_close(mine, theirs.detach(), rtol=1e-8, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")
        torch.testing.assert_close(twice, theirs, rtol=1e-8, atol=1e-9)
    if expected[0].requires_grad:
        (second,) = torch.autograd.grad(found[0].square().sum(), x)
        (second_wanted,) = torch.autograd.grad(expected[0].square().sum(), exact)
        torch.testing.assert_close(second, second_wanted, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("option", OPTIONS)
def test_what_a_norm_gives_may_be_changed_in_place(option, shape):
    module, x = build(option, 12), sample(shape).detach()
    x = x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
    pull, found = sample(shape, seed=3).detach(), []
    for change in (lambda y: y + 1, lambda y: y.add_(1)):
        start = x.clone(memory_format=torch.preserve_format).requires_grad_()
        (change(module(start * 1.0)) * pull).sum().backward()
        found.append(start.grad)
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-14)


def test_one_position_gets_no_gradient_from_an_instance_norm():
    """Not even rounding: an optimizer that divides by a gradient's size would make steps of it."""
    x = torch.randn(4, 1, 8, requires_grad=True)
    (dx,) = torch.autograd.grad(catalog.build("normalization", "instance_norm", 8)(x), x, torch.randn(4, 1, 8))
    assert not dx.any()


def test_a_short_vector_has_the_gradient_of_its_floor():
    """scale_norm divides by eps where a position is shorter than that: its length does not count there."""
    module = catalog.build("normalization", "scale_norm", 3, eps=0.5).double()
    x = torch.tensor([[[0.1, -0.2, 0.0], [0.0, 0.0, 0.0], [3.0, 4.0, 0.0]]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, (x,))


@pytest.mark.parametrize("channels", [1, 6, 7, 12, 20])
@pytest.mark.parametrize("option", OPTIONS)
def test_any_number_of_channels(option, channels):
    """Also where num_groups does not divide them."""
    formula = formulas.find("normalization", option)
    module, x = build(option, channels), sample((3, channels, 2, 4))
    wanted = formula(
        positions_last(x.detach()), weights(module), True, **catalog.entry("normalization", option).parameters
    )
    torch.testing.assert_close(positions_last(module(x).detach()), wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("option", OPTIONS)
def test_evaluation_differs_only_by_running_averages(option):
    """They end at the statistics of the data; without any, evaluation is training."""
    module, x = build(option, 4), sample((64, 4, 4, 4))
    fresh = module.eval()(x)
    trained = module.train()(x)
    averages = [buffer for buffer in module.buffers() if buffer.is_floating_point()]
    if averages:
        assert (fresh - trained).abs().max() > 0.1
        for _ in range(300):
            module(x)
    torch.testing.assert_close(module.eval()(x), trained, rtol=0, atol=5e-3)


@pytest.mark.parametrize("option", OPTIONS)
def test_channels_last_gives_the_same(option):
    module, x = build(option, 8), sample((2, 8, 4, 4)).detach()
    torch.testing.assert_close(module(x.to(memory_format=torch.channels_last)), module(x))


def ends(domain: dict) -> tuple:
    return (domain["choices"][0], domain["choices"][-1]) if "choices" in domain else (domain["low"], domain["high"])


SPACES = [
    (option, name, i) for option in OPTIONS for name in catalog.entry("normalization", option).space for i in (0, 1)
]


@pytest.mark.parametrize(("option", "name", "end"), SPACES)
def test_follows_the_formula_at_the_ends_of_each_domain(option, name, end):
    entry = catalog.entry("normalization", option)
    value = ends(entry.space[name])[end]
    module, x = build(option, 12, **{name: value}), sample((2, 12, 3, 3)).detach()
    wanted = formulas.find("normalization", option)(
        positions_last(x), weights(module), True, **{**entry.parameters, name: value}
    )
    torch.testing.assert_close(positions_last(module(x).detach()), wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("shape", [(3, 8, 1, 1), (3, 1, 8), (1, 8, 1, 1), (1, 1, 8), (1, 1, 1, 1)], ids=str)
@pytest.mark.parametrize("option", OPTIONS)
def test_one_position_is_taken_or_refused_in_one_line(option, shape, training):
    """A small patch or a deep U-Net may end there. Only one value a channel in the whole batch may be refused."""
    module, x = build(option, shape[-1] if len(shape) == 3 else shape[1]).train(training), sample(shape)
    try:
        y = module(x)
    except UserError as refusal:
        assert shape[0] == 1 and training and option in str(refusal) and "\n" not in str(refusal)
        return
    (y * torch.randn_like(y)).sum().backward()
    assert y.shape == x.shape and y.isfinite().all() and x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("option", OPTIONS)
def test_half_precision_is_close_to_float(option, shape):
    """Statistics are not taken of numbers with eight bits."""
    module, x = build(option, 12).float(), 30 + sample(shape).detach().float()
    x = x.bfloat16().float()
    with torch.autocast("cpu", torch.bfloat16):
        y = module(x.bfloat16())
    torch.testing.assert_close(y.float(), module(x), rtol=0.02, atol=0.02)


def test_batch_norm_that_does_not_track_takes_the_batch_in_evaluation_too():
    tracks, does_not = (build("batch_norm", 4, track=track).eval() for track in (True, False))
    x = sample((8, 4, 3, 3)).detach()
    assert not list(does_not.buffers())
    assert torch.equal(does_not(x), does_not.train()(x))
    assert (tracks(x)[:2] - tracks(x[:2])).abs().max() < 1e-12, "an image alone is an image among others"
    assert (does_not(x)[:2] - does_not(x[:2])).abs().max() > 1e-3, "and here it is not"


def test_one_momentum_of_batch_norm_is_one_share_of_the_batch():
    module, x = catalog.build("normalization", "batch_norm", 3, momentum=0.25).double(), sample((8, 3, 4, 4)).detach()
    module(x)
    mean, var = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3))
    state = weights(module)
    torch.testing.assert_close(state["running_mean"], 0.25 * mean)
    torch.testing.assert_close(state["running_var"], 0.75 + 0.25 * var)
