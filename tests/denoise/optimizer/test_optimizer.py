"""Every optimizer: its first updates against the formula in float64, weight decay, its state, in a training."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from denoise.config import catalog, compose
from denoise.errors import UserError
from denoise.optimizer import is_matrix, parameter_groups, split_matrices
from denoise.training.train import prepare, train
from tests import formulas

OPTIONS = catalog.options("optimizer")
STEPS = 4


def start(shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and the curvature of a problem whose gradient is c w^3 / 3 + c w - 1."""
    torch.manual_seed(0)
    return torch.randn(shape, dtype=torch.float64), torch.rand(shape, dtype=torch.float64) + 0.5


def gradient(w: torch.Tensor, curvature: torch.Tensor) -> torch.Tensor:
    return curvature * (w**3 / 3 + w) - 1


def hessian(w: torch.Tensor, curvature: torch.Tensor) -> torch.Tensor:
    """The diagonal of the derivative of `gradient`, which has no more than a diagonal."""
    return curvature * (w**2 + 1)


def run(optimizer: torch.optim.Optimizer, w: torch.Tensor, curvature: torch.Tensor, steps: int) -> list[torch.Tensor]:
    problem = Problem(curvature)
    if hasattr(optimizer, "curvature"):
        optimizer.curvature = lambda parameters: [problem.hessian(p) for p in parameters]
    met = []
    for _ in range(steps):
        w.grad = problem.gradient(w.detach())
        optimizer.step()
        met.append(w.detach().clone())
    return met


@dataclass
class Problem:
    """Gradients by step, each with a factor, and a factor on the learning rate, a tensor that is changed at each."""

    curvature: torch.Tensor
    factors: Sequence[float] = ()
    rates: Sequence[float] = ()
    lr: torch.Tensor | None = None
    step: int = -1

    def gradient(self, w: torch.Tensor) -> torch.Tensor:
        self.step += 1
        if self.lr is not None and self.rates:
            self.lr.fill_(self.rates[self.step])
        return gradient(w, self.curvature) * (self.factors[self.step] if self.factors else 1.0)

    def hessian(self, w: torch.Tensor) -> torch.Tensor:
        return hessian(w, self.curvature) * (self.factors[self.step] if self.factors else 1.0)


# what is given beside the defaults, factors on the gradients, factors on the learning rate
CASES: dict[str, tuple[dict[str, float], Sequence[float], Sequence[float]]] = {
    "default": ({}, (), ()),
    "decayed": ({"weight_decay": 0.3}, (), ()),
    "gradients of 1e-4": ({"weight_decay": 0.0}, [1e-4] * STEPS, ()),
    "gradients of 1e-8": ({"weight_decay": 0.0}, [1e-8] * STEPS, ()),
    "first gradient zero": ({"weight_decay": 0.3}, [0.0, 1.0, 0.0, 1.0], ()),
    "scheduled": ({"weight_decay": 0.3}, (), [0.2, 1.0, 0.5, 0.1]),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shape", [(6, 10), (7,), (4, 3, 3, 3)], ids=["matrix", "vector", "conv"])
@pytest.mark.parametrize("option", OPTIONS)
def test_first_updates_follow_the_formula(option, shape, case):
    rule, parameters = formulas.find("optimizer", option), dict(catalog.entry("optimizer", option).parameters)
    beside, factors, rates = CASES[case]
    given = {**rule.given, **{name: value for name, value in beside.items() if name in parameters}}
    rates = [parameters["lr"] * rate for rate in rates]
    w, curvature = start(shape)
    lr = torch.tensor(parameters["lr"], dtype=torch.float64)
    problem = Problem(curvature, factors, rates, lr)
    how = {"gradient": problem.gradient, "hessian": problem.hessian}
    wanted = rule.run(w.clone(), steps=STEPS, **how, **{**parameters, **given, "lr": lr})
    parameter = nn.Parameter(w.clone())
    optimizer = catalog.build("optimizer", option, [parameter], **given)
    problem = Problem(curvature, factors)
    if hasattr(optimizer, "curvature"):
        optimizer.curvature = lambda given: [problem.hessian(p.detach()) for p in given]
    size = max((after - before).norm() for before, after in zip([w, *wanted], wanted, strict=False))
    assert size > 0
    for step, formula in enumerate(wanted):
        for group in optimizer.param_groups:
            group["lr"] = rates[step] if rates else group["lr"]
        parameter.grad = problem.gradient(parameter.detach())
        optimizer.step()
        error = (parameter.detach() - formula).norm() / size
        assert error < rule.tolerance * (1 + step), f"{option}, update {step + 1}: off by {error:.2g} of an update"


@pytest.mark.parametrize("option", OPTIONS)
def test_searched_parameters_act(option):
    entry = catalog.entry("optimizer", option)
    for name, domain in entry.space.items():
        ends = []
        for value in (domain["low"], (domain["low"] + domain["high"]) / 2):
            w, curvature = start((6, 10))
            parameter = nn.Parameter(w)
            ends.append(
                run(catalog.build("optimizer", option, [parameter], **{name: value}), parameter, curvature, 3)[-1]
            )
        assert not torch.equal(*ends), f"{option}: {name} does nothing"


@pytest.mark.parametrize("option", OPTIONS)
def test_reduces_a_quadratic(option):
    torch.manual_seed(0)
    w = nn.Parameter(torch.randn(8, 8))
    curvature = torch.linspace(0.2, 1.0, 64).view(8, 8)
    optimizer = catalog.build("optimizer", option, [w])
    if hasattr(optimizer, "curvature"):
        optimizer.curvature = lambda parameters: [2 * curvature for _ in parameters]
    losses = []
    for _ in range(40):
        loss = (curvature * w.square()).sum()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.999 * losses[0]


@pytest.mark.parametrize("option", OPTIONS)
def test_decay_reaches_matrices_and_nothing_else(option):
    """Where the gradient is zero only weight decay moves a weight; one bias has another gradient, so that all act."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.PReLU(), nn.utils.parametrizations.weight_norm(nn.Linear(4, 5))
    )
    given = {"weight_decay": 0.5} if "weight_decay" in catalog.entry("optimizer", option).parameters else {}
    optimizer = catalog.build("optimizer", option, parameter_groups(model), **given)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    model[0].bias.grad += 1
    if hasattr(optimizer, "curvature"):
        optimizer.curvature = lambda parameters: [torch.zeros_like(p) for p in parameters]
    for _ in range(2):  # the first gradient may do no more than start a state
        optimizer.step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    decayed = {"0.weight", "3.parametrizations.weight.original1"}
    assert moved - {"0.bias"} == (decayed if given else set())


def test_groups_hold_every_parameter_once():
    model = nn.Sequential(nn.Linear(4, 5), nn.PReLU(), nn.LayerNorm(5), nn.Conv2d(5, 6, 1, bias=False))
    groups = parameter_groups(model)
    held = [id(p) for group in groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())
    assert [group.get("weight_decay") for group in groups] == [None, 0.0]
    assert {p.ndim for p in groups[0]["params"]} == {2, 4} and {p.ndim for p in groups[1]["params"]} == {1}


@pytest.mark.parametrize("option", OPTIONS)
def test_channels_last_changes_nothing(option):
    rule = formulas.find("optimizer", option)
    torch.manual_seed(0)
    w, gradients = torch.randn(6, 4, 3, 3), torch.randn(3, 6, 4, 3, 3)
    ends = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        parameter = nn.Parameter(w.clone(memory_format=memory_format))
        optimizer = catalog.build("optimizer", option, [parameter])
        if hasattr(optimizer, "curvature"):
            optimizer.curvature = lambda parameters: [p.square() for p in parameters]
        for g in gradients:
            parameter.grad = g.clone(memory_format=memory_format)
            optimizer.step()
        assert parameter.is_contiguous(memory_format=memory_format)
        ends.append(parameter.detach())
    scale = (ends[0] - w).norm()
    assert scale > 0 and (ends[0] - ends[1]).norm() / scale < max(1e-4, rule.tolerance)


@pytest.mark.parametrize("option", OPTIONS)
def test_a_gradient_may_have_another_memory_format_than_its_parameter(option):
    """Set by hand: autograd gives it its parameter's. Or be one number, expanded."""
    rule = formulas.find("optimizer", option)
    torch.manual_seed(0)
    w = torch.randn(6, 4, 3, 3)
    last, g = {"memory_format": torch.channels_last}, torch.randn(6, 4, 3, 3)
    for gradient in (g, g.contiguous(**last), g[:1, :1, :1, :1].expand(6, 4, 3, 3)):
        ends = []
        for p, grad in (
            (w.clone(), gradient.clone(memory_format=torch.contiguous_format)),
            (w.clone(**last), gradient),
        ):
            parameter = nn.Parameter(p)
            optimizer = catalog.build("optimizer", option, [parameter])
            if hasattr(optimizer, "curvature"):
                optimizer.curvature = lambda parameters: [p.square() for p in parameters]
            for _ in range(2):
                parameter.grad = grad.clone() if grad.stride()[0] else grad
                optimizer.step()
            ends.append(parameter.detach())
        assert (ends[0] - ends[1]).norm() / (ends[0] - w).norm() < max(1e-4, rule.tolerance)


class Hinges(nn.Module):
    """Learned per channel in two dimensions, as an activation or a normalization may be."""

    def __init__(self, kind: str | None) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(2, 5))
        self.inner = nn.Linear(5, 5)
        if kind:
            self.kind = kind


@pytest.mark.parametrize(("kind", "counts"), [(None, True), ("activation", False), ("normalization", False)])
def test_what_an_activation_or_a_normalization_learns_is_no_matrix(kind, counts):
    """Decided by where it stands, at any depth in the component, and not by its shape."""
    model = nn.Sequential(nn.Linear(5, 4), Hinges(kind))
    matrices, rest = parameter_groups(model)
    held = {id(p) for p in matrices["params"]}
    assert id(model[0].weight) in held and matrices["matrices"] and not rest["matrices"]
    assert (id(model[1].table) in held) == (id(model[1].inner.weight) in held) == counts


def test_halves_go_by_the_group_and_else_by_the_shape():
    matrix, table, vector = (nn.Parameter(torch.zeros(shape)) for shape in [(3, 4), (2, 5), (7,)])
    split = split_matrices({"params": [matrix, table, vector]}, {"a": 1}, {"b": 2})
    assert [[id(p) for p in g["params"]] for g in split] == [[id(matrix), id(table)], [id(vector)]]
    (one,) = split_matrices({"params": [matrix], "matrices": True, "a": 3}, {"a": 1}, {"a": 2})
    (other,) = split_matrices(
        {"params": [table, vector], "matrices": False, "weight_decay": 0.0, "a": 3}, {"a": 1}, {"a": 2}
    )
    assert (one["a"], other["a"], other["weight_decay"]) == (3, 2, 0.0) and "matrices" not in {**one, **other}
    assert is_matrix(matrix) and not is_matrix(vector) and not is_matrix(torch.zeros(5, 1, 1))


OWN = [option for option in OPTIONS if catalog.entry("optimizer", option).target.startswith("denoise.")]


@pytest.mark.parametrize("option", OWN)
def test_what_is_no_matrix_is_updated_entry_by_entry(option):
    """As a vector would be: no basis, no orthogonal update."""
    w, curvature = start((3, 5))
    table, vector = nn.Parameter(w.clone()), nn.Parameter(w.flatten())
    ends = [
        run(catalog.build("optimizer", option, [{"params": [p], "matrices": False}]), p, c, 4)[-1]
        for p, c in ((table, curvature), (vector, curvature.flatten()))
    ]
    torch.testing.assert_close(ends[0].flatten(), ends[1], rtol=1e-12, atol=0)


# ---------------------------------------------------------------- state


@pytest.mark.parametrize("option", OPTIONS)
def test_a_saved_state_goes_on_bit_for_bit(option):
    """Through a file that is read as data only, into an optimizer made anew."""
    torch.manual_seed(0)
    weights = [torch.randn(shape) for shape in [(6, 10), (4, 3, 3, 3), (7,)]]
    gradients = [[torch.randn_like(w) for w in weights] for _ in range(18)]

    def go(parameters, optimizer, met):
        if hasattr(optimizer, "curvature"):
            optimizer.curvature = lambda given: [p.square() for p in given]
        for step in met:
            for p, g in zip(parameters, step, strict=True):
                p.grad = g.clone()
            optimizer.step()

    first = [nn.Parameter(w.clone()) for w in weights]
    optimizer = catalog.build("optimizer", option, first)
    go(first, optimizer, gradients[:7])
    file = io.BytesIO()
    torch.save({"state": optimizer.state_dict(), "weights": [p.detach() for p in first]}, file)
    go(first, optimizer, gradients[7:])
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    second = [nn.Parameter(w) for w in saved["weights"]]
    again = catalog.build("optimizer", option, second)
    again.load_state_dict(saved["state"])
    go(second, again, gradients[7:])
    assert all(torch.equal(p, q) for p, q in zip(first, second, strict=True))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize("option", OPTIONS)
def test_a_gradient_that_overflows_is_no_error_here(option, bad):
    """It is the training that finds a loss that is not finite, and says so."""
    torch.manual_seed(0)
    w = nn.Parameter(torch.randn(6, 10))
    optimizer = catalog.build("optimizer", option, [w])
    if hasattr(optimizer, "curvature"):
        optimizer.curvature = lambda given: [p.square() for p in given]
    for step in range(12):
        w.grad = torch.randn(6, 10) * (bad if step else 1.0)
        optimizer.step()


# ---------------------------------------------------------------- in a training

TINY = (
    "trainer.gap_samples=16 "
    "model.width=8 model.embedding_dim=16 model.num_heads=2 data.batch_size=16 trainer.val_samples=16 "
    "trainer.accelerator=cpu trainer.num_threads=1 solver.images=1 solver.steps=2"
).split()


def tiny(*overrides: str):
    return compose.compose([*TINY, *overrides]).cfg


@pytest.mark.parametrize("option", OPTIONS)
def test_lowers_the_loss_of_a_unet(option):
    """Thirty steps on one batch at the default rates, deterministic algorithms only."""
    module = prepare(tiny(f"optimizer={option}", "trainer.max_steps=30"))
    made = module.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    batch, losses = module.draw(0), []
    torch.use_deterministic_algorithms(True)
    try:
        for _ in range(30):
            optimizer.zero_grad()
            loss = module.denoiser.loss(*batch).mean()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(math.isfinite(loss) for loss in losses) and losses[-1] < losses[0]


def wants_more(option: str) -> bool:
    """Whether a training does more for the optimizer than to call its step."""
    optimizer = catalog.build("optimizer", option, [nn.Parameter(torch.zeros(1))])
    return hasattr(optimizer, "eval") or hasattr(optimizer, "curvature")


class Killed(Exception):
    pass


class Witness:
    """Keeps the objectives; raises at step `killed_at`."""

    def __init__(self, killed_at: int | None = None) -> None:
        self.killed_at, self.objectives = killed_at, {}

    def on_metrics(self, step, metrics):
        if self.killed_at is not None and step >= self.killed_at:
            raise Killed

    def on_objective(self, step, value):
        self.objectives[step] = value
        return False

    def on_step(self):
        pass

    def on_save(self, step):
        pass


@pytest.mark.parametrize("option", [option for option in OPTIONS if wants_more(option)])
def test_evaluated_or_not_resumed_or_not_it_is_the_same_training(option, tmp_path):
    common = [f"optimizer={option}", "optimizer.lr=0.005", "dropout=0.1", "normalization=batch_norm"]
    common += ["trainer.max_steps=14", "trainer.save_seconds=0", "trainer.log_every=1"]
    whole, whole_witness = train(tiny(*common, "trainer.val_every=3"), witness := Witness()), witness
    assert train(tiny(*common, "trainer.val_every=5")).weights_sha256 == whole.weights_sha256
    with pytest.raises(Killed):
        train(tiny(*common, "trainer.val_every=3"), Witness(killed_at=12), tmp_path / "state.ckpt")
    witness = Witness()
    resumed = train(tiny(*common, "trainer.val_every=3"), witness, tmp_path / "state.ckpt")
    assert resumed.weights_sha256 == whole.weights_sha256
    assert witness.objectives == {s: v for s, v in whole_witness.objectives.items() if s > 10}


@pytest.mark.parametrize("option", [option for option in OPTIONS if wants_more(option)])
def test_what_is_evaluated_is_the_optimizers_own_average_if_it_has_one(option):
    cfg = tiny(f"optimizer={option}", "trainer.max_steps=6", "trainer.val_every=4", "trainer.ema_decay=0.0")
    result = train(cfg)
    module = prepare(cfg)
    made = module.configure_optimizers()
    for step in range(6):
        module.clock.step = step
        made["optimizer"].zero_grad()
        module.denoiser.loss(*module.draw(step)).mean().backward()
        made["optimizer"].step()
        made["lr_scheduler"]["scheduler"].step()
    trained = [p.detach().clone() for p in module.denoiser.parameters()]
    if hasattr(made["optimizer"], "eval"):
        made["optimizer"].eval()
        assert not all(torch.equal(p, q) for p, q in zip(trained, module.denoiser.parameters(), strict=True))
    for name, p in module.denoiser.named_parameters():
        torch.testing.assert_close(result.weights[name], p.detach(), rtol=1e-4, atol=1e-6)


def test_curvature_is_the_gauss_newton_diagonal_of_the_loss():
    """For a backbone that is linear in its weights the loss's Hessian itself; and asking leaves no trace."""
    module = prepare(tiny("normalization=batch_norm", "dropout=0.3"))
    denoiser, (images, sigma, noise, *_) = module.denoiser, module.draw(3)
    images, sigma, noise = images[:4], sigma[:4], noise[:4]

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x, c_noise, labels):
            return self.conv(x)

    network, denoiser.backbone = denoiser.backbone, Linear()
    w = denoiser.backbone.conv.weight
    loss = denoiser.loss(images, sigma, noise).mean()
    (g,) = torch.autograd.grad(loss, w, create_graph=True)
    wanted = torch.stack(
        [torch.autograd.grad(one, w, retain_graph=True)[0].flatten()[i] for i, one in enumerate(g.flatten())]
    )
    torch.manual_seed(0)
    estimates = [denoiser.curvature([w], images, sigma, noise, None, torch.randn_like(images))[0] for _ in range(3000)]
    torch.testing.assert_close(torch.stack(estimates).mean(0).flatten(), wanted, rtol=0.1, atol=0)
    denoiser.backbone = network
    module.clock.step = 3
    module.denoiser.train()
    parameters = list(module.denoiser.parameters())
    before = {name: tensor.clone() for name, tensor in module.denoiser.state_dict().items()}
    one, other = module.curvature(parameters), module.curvature(parameters)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True)) and any(a.any() for a in one)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.denoiser.state_dict().items())


# ---------------------------------------------------------------- gradient clipping


@pytest.mark.parametrize("by", [None, "norm", "value"])
def test_the_first_update_is_that_of_the_clipped_gradient(by):
    """Of plain gradient descent; the averaged weights after one step are the weights."""
    clip = [f"trainer.gradient_clip={0.01}", f"trainer.gradient_clip_by={by}"] if by else []
    steps = ["trainer.max_steps=1", "optimizer=sgd", "optimizer.lr=0.1", "lr_schedule=constant", "zero_output=false"]
    cfg = tiny(*steps, *clip)
    result, module = train(cfg), prepare(cfg)
    module.denoiser.loss(*module.draw(0)).mean().backward()
    gradients = {name: p.grad for name, p in module.denoiser.named_parameters()}
    norm = torch.cat([g.flatten() for g in gradients.values()]).norm()
    assert norm > 0.1 and max(g.abs().max() for g in gradients.values()) > 0.02
    for name, p in module.denoiser.named_parameters():
        g = gradients[name]
        clipped = {None: g, "norm": g * 0.01 / norm, "value": g.clamp(-0.01, 0.01)}[by]
        torch.testing.assert_close(result.weights[name], p.detach() - 0.1 * clipped, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("by", ["norm", "value"])
def test_clipping_goes_with_mixed_precision_and_a_fused_optimizer(by):
    clip = ["trainer.gradient_clip=0.01", f"trainer.gradient_clip_by={by}", "trainer.precision=bf16-mixed"]
    assert train(tiny("trainer.max_steps=1", "optimizer=adamw", *clip)).outcome == "complete"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("trainer.gradient_clip_by=vlaue", ("trainer.gradient_clip_by=vlaue", "'value'", "norm, value")),
        ("trainer.gradient_clip=0", ("trainer.gradient_clip=0", "1e-09")),
        ("trainer.gradient_clip_by=null", ("trainer.gradient_clip_by", "word")),
    ],
)
def test_a_clipping_that_is_none_is_refused(override, words):
    with pytest.raises(UserError) as refused:
        prepare(tiny(override))
    assert all(word in str(refused.value) for word in words)


# ---------------------------------------------------------------- what the texts say


def steps_of(option: str, gradients: list[float], **given: float) -> list[float]:
    """The length of each update of one weight."""
    w = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer, met = catalog.build("optimizer", option, [w], **given), []
    for g in gradients:
        before, w.grad = w.item(), torch.full_like(w, g)
        optimizer.step()
        met.append(abs(w.item() - before))
    return met


def test_without_bias_correction_adams_first_steps_are_far_too_large():
    right, wrong = (steps_of(option, [0.3] * 40, lr=0.001) for option in ("adam", "adam_uncorrected"))
    assert all(step == pytest.approx(0.001, rel=1e-6) for step in right)
    assert wrong[0] == pytest.approx(0.001 * 0.1 / 0.001**0.5, rel=1e-5) and max(wrong) > 6 * 0.001


def test_adagrads_step_shrinks_and_rmsprops_does_not():
    shrinking, steady = (steps_of(option, [0.3] * 400, lr=0.01) for option in ("adagrad", "rmsprop"))
    assert shrinking[399] == pytest.approx(shrinking[0] / 20, rel=1e-6)
    assert steady[399] == pytest.approx(steady[300], rel=0.05) and steady[399] > 0.9 * 0.01


def test_momentum_passes_a_saddle_point_where_plain_descent_stalls():
    """x^2 - y^2 / 2 + y^4 / 4 from beside the ridge, where the slope along y is 1e-4."""

    def reached(option: str) -> float:
        w = nn.Parameter(torch.tensor([1.0, 1e-4], dtype=torch.float64))
        optimizer = catalog.build("optimizer", option, [w], lr=0.03)
        for _ in range(120):
            optimizer.zero_grad()
            (w[0] ** 2 - w[1] ** 2 / 2 + w[1] ** 4 / 4).backward()
            optimizer.step()
        return w[1].item()

    assert reached("sgd") < 0.01 and min(reached("momentum"), reached("nesterov")) > 0.5
