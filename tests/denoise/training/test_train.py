"""Training: every option acts, the averaged weights, the objective, and how a training ends."""

import json
import math
from functools import cache

import pytest
import torch

from denoise.config import catalog, compose
from denoise.errors import UserError
from denoise.randomness import Stochastic
from denoise.training.callbacks import Diverged, TrainingMonitor
from denoise.training.train import Result, draw, prepare, sample, sha256, train

COMMON = (
    "trainer.gap_samples=16 "
    "trainer.accelerator=cpu trainer.num_threads=1 data.batch_size=8 trainer.val_samples=16 solver.images=1 "
    "solver.steps=2 trainer.log_every=1"
).split()
TINY = {
    "unet": ["model=unet", "model.width=8", "model.embedding_dim=16", "model.num_heads=2"],
    "dit": ["model=dit", "model.dim=16", "model.depth=1", "model.num_heads=2", "model.embedding_dim=16"],
}
OPTIONS = [(kind, option) for kind in catalog.KINDS for option in catalog.options(kind)]
PARAMETERS = [(kind, option, name) for kind, option in OPTIONS for name in catalog.entry(kind, option).space]


def tiny(*overrides: str, model: str = "unet"):
    return compose.compose([*TINY[model], *COMMON, *overrides]).cfg


class Witness:
    """Keeps what it is told; says stop at the first evaluation at or after `stop_at`."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at
        self.losses: dict[int, float] = {}
        self.objectives: dict[int, float] = {}

    def on_metrics(self, step, metrics):
        if "train/loss" in metrics:
            self.losses[step] = metrics["train/loss"]

    def on_objective(self, step, value):
        self.objectives[step] = value
        return self.stop_at is not None and step >= self.stop_at

    def on_step(self):
        pass

    def on_save(self, step):
        pass


# ---------------------------------------------------------------- every option acts

TRAINED = ("optimizer", "lr_schedule")  # what may act late, or say how its weights are evaluated


def plain_loop(cfg):
    """The steps of a training without a trainer: its module after each update, and the loss before it."""
    module = prepare(cfg)
    made = module.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    module.denoiser.train()
    for step in range(cfg.trainer.max_steps):
        module.clock.step = step
        optimizer.zero_grad()
        loss = module.denoiser.loss(*module.draw(step)).mean()
        loss.backward()
        optimizer.step()
        schedule.step()
        yield module, loss.item()


@cache
def seen(model: str, overrides: tuple[str, ...], trained: bool) -> str:
    """What a training shows: of twelve steps its evaluation, or of a plain loop its losses and an evaluation."""
    steps = ["trainer.diverged_at=1e30", "zero_output=false", f"trainer.max_steps={12 if trained else 3}"]
    cfg, witness = tiny(*steps, "trainer.val_every=12", *overrides, model=model), Witness()
    if trained:
        return f"{train(cfg, witness).outcome} {witness.objectives}"
    found = list(plain_loop(cfg))
    module = found[-1][0]
    module.setup("fit")
    module.denoiser.eval()
    t = module.triples
    with torch.no_grad():
        evaluated = module.denoiser.loss(t.images, t.sigma, t.noise, t.labels if cfg.model.class_conditional else None)
    return f"{[loss for _, loss in found]} {evaluated.mean().item()}"


@pytest.mark.components
@pytest.mark.parametrize("model", TINY)
@pytest.mark.parametrize(("kind", "option"), OPTIONS)
def test_the_option_acts(kind, option, model):
    """Choosing it gives other numbers than the baseline; the baseline's own option, than another option."""
    own, trained = compose.compose().choices[kind], kind in TRAINED
    other = own if option != own else next(o for o in catalog.options(kind) if o != own)
    if catalog.entry(kind, option).needs:  # what it then does is shown by tests of its own
        with pytest.raises(UserError, match=f"{kind}.{catalog.entry(kind, option).needs[0]}="):
            seen(model, (f"{kind}={option}",), trained)
        return
    found = seen(model, (f"{kind}={option}",), trained)
    assert found != seen(model, (f"{kind}={other}",), trained), f"{kind}={option} does nothing"


@pytest.mark.parametrize("kind", [kind for kind in catalog.KINDS if kind not in TRAINED])
def test_what_acts_in_a_plain_loop_acts_in_a_training(kind):
    other = next(o for o in reversed(catalog.options(kind)) if not catalog.entry(kind, o).needs)
    assert seen("unet", (f"{kind}={other}",), True) != seen("unet", (), True)


def another_value(domain: dict, default: object) -> object:
    """A value of a domain far from the default: three quarters of the way through it, or the lower end."""
    if domain["type"] == "categorical":
        return next(choice for choice in reversed(domain["choices"]) if choice != default)
    low, high = domain["low"], domain["high"]
    far = low * (high / low) ** 0.75 if domain.get("log") else low + 0.75 * (high - low)
    far = round(far) if domain["type"] == "int" else far
    return low if isinstance(default, int | float) and abs(far - default) < 0.2 * (far - low) else far


@pytest.mark.components
@pytest.mark.parametrize(("kind", "option", "name"), PARAMETERS)
def test_the_searched_parameter_acts(kind, option, name):
    """Another value of its domain gives other numbers than the default: a search over it is not over nothing."""
    entry = catalog.entry(kind, option)
    value = another_value(entry.space[name], entry.parameters[name])
    assert value != entry.parameters[name]
    default, other = (
        seen("unet", (f"{kind}={option}", *more), kind in TRAINED) for more in ((), (f"{kind}.{name}={value}",))
    )
    assert default != other, f"{kind}.{option}.{name} does nothing"


@pytest.mark.parametrize(
    "override",
    ["placement=post", "placement=sandwich", "dropout=0.5", "zero_output=true", "trainer.gradient_clip=0.01"],
)
def test_the_axis_beside_the_kinds_acts(override):
    assert seen("unet", (override,), True) != seen("unet", (), True)


# ---------------------------------------------------------------- an independent training


def independent(cfg):
    """The same training as a plain loop, with its own averaging: the module and its averaged weights."""
    average = None
    for step, (module, _) in enumerate(plain_loop(cfg)):
        now = {name: tensor.detach().double().clone() for name, tensor in module.denoiser.state_dict().items()}
        decay = min(cfg.trainer.ema_decay, (1 + step) / (10 + step))
        average = now if average is None else {n: decay * average[n] + (1 - decay) * now[n] for n in now}
    return module, average


@pytest.mark.parametrize("decay", [0.0, 0.2, 0.98])
def test_averaged_weights_are_those_of_a_plain_loop(decay):
    """With a ramp min(decay, (1 + t) / (10 + t)), and running averages of batch_norm averaged too."""
    cfg = tiny("normalization=batch_norm", "trainer.max_steps=12", "trainer.val_every=5", f"trainer.ema_decay={decay}")
    result = train(cfg)
    _, average = independent(cfg)
    assert result.weights.keys() == average.keys()
    for name, tensor in result.weights.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor.double(), average[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("extra", ["model.class_conditional=false", "model.class_conditional=true"])
def test_objective_is_the_mean_loss_of_the_averaged_weights_on_the_triples(extra):
    cfg = tiny(extra, "trainer.max_steps=7", "trainer.val_every=4", "trainer.val_samples=22", "dropout=0.2")
    witness = Witness()
    result = train(cfg, witness)
    module, average = independent(cfg)
    module.setup("fit")
    module.denoiser.load_state_dict({name: tensor.float() for name, tensor in average.items()})
    module.denoiser.eval()
    t = module.triples
    labels = t.labels if cfg.model.class_conditional else None
    with torch.no_grad():
        losses = module.denoiser.loss(t.images, t.sigma, t.noise, labels).double()
    assert result.metrics["val/loss"] == pytest.approx(losses.mean().item(), rel=1e-4)
    assert witness.objectives[7] == result.metrics["val/loss"]
    bands = [result.metrics[f"val/loss_band_{k}"] for k in range(4)]
    assert bands == pytest.approx([part.mean().item() for part in losses.tensor_split(4)], rel=1e-4)
    assert "val/loss_band_4" not in result.metrics


def test_bands_are_quarters_of_the_objective():
    metrics = train(tiny("trainer.max_steps=3", "trainer.val_samples=32")).metrics
    bands = [metrics[f"val/loss_band_{k}"] for k in range(4)]
    assert sum(bands) / 4 == pytest.approx(metrics["val/loss"], rel=1e-9)


def test_triples_are_the_same_for_every_trial():
    """Whatever its seed, batch size and components; spread evenly over the noise distribution."""
    one, other = prepare(tiny()), prepare(tiny("seed=5", "activation=relu", "data.batch_size=16", model="dit"))
    for module in (one, other):
        module.setup("fit")
    for name in ("images", "sigma", "noise", "labels"):
        assert torch.equal(getattr(one.triples, name), getattr(other.triples, name))
    u = (torch.arange(16, dtype=torch.float64) + 0.5) / 16
    wanted = (-1.2 + 1.2 * math.sqrt(2) * torch.erfinv(2 * u - 1)).exp()
    torch.testing.assert_close(one.triples.sigma.double(), wanted, rtol=1e-5, atol=0)
    validation = {tuple(image.flatten().tolist()) for image in one.data.images["validation"]}
    assert all(tuple(image.flatten().tolist()) in validation for image in one.triples.images)


def test_each_image_is_met_once_before_any_twice():
    module = prepare(tiny("trainer.val_samples=300"))
    module.setup("fit")
    met = [tuple(image.flatten().tolist()) for image in module.triples.images]
    counts = sorted(met.count(image) for image in set(met))
    assert len(set(met)) > 265 and counts[-1] <= 3  # 270 images, a few of them drawn alike


# ---------------------------------------------------------------- how a training ends


def test_a_complete_training_gives_all_that_is_promised():
    result = train(tiny("trainer.max_steps=8", "trainer.val_every=4"))
    assert (result.outcome, result.step, result.failure) == ("complete", 8, None)
    assert result.samples.startswith(b"\x89PNG") and len(result.weights_sha256) == 64
    assert result.weights_sha256 == sha256(result.weights)
    wanted = "train/loss val/loss val/loss_band_3 cost/parameters cost/flops_per_step cost/samples_per_second"
    assert set(wanted.split()) | {"cost/peak_memory_bytes", "health/gradient_range"} <= result.metrics.keys()
    assert all(math.isfinite(value) for value in result.metrics.values()) and len(result.metrics) <= 20
    assert {"down.0.0.activation_in", "conv_in"} <= json.loads(result.layers)["layers"].keys()
    assert result.metrics["cost/parameters"] == sum(w.numel() for w in result.weights.values())
    assert result.training_seconds > 0 and result.evaluating_seconds > 0


@pytest.mark.parametrize(
    ("max_steps", "val_every", "evaluated"), [(5, 2, [2, 4, 5]), (6, 3, [3, 6]), (3, 10, [3]), (1, 1, [1])]
)
def test_the_last_step_is_always_evaluated(max_steps, val_every, evaluated):
    witness = Witness()
    result = train(tiny(f"trainer.max_steps={max_steps}", f"trainer.val_every={val_every}"), witness)
    assert list(witness.objectives) == evaluated and result.step == max_steps
    assert witness.objectives[max_steps] == result.metrics["val/loss"]
    assert list(witness.losses) == list(range(1, max_steps + 1))


def test_an_observer_that_says_stop_ends_the_training():
    witness = Witness(stop_at=4)
    result = train(tiny("trainer.max_steps=10", "trainer.val_every=2"), witness)
    assert (result.outcome, result.step) == ("stopped", 4) and list(witness.objectives) == [2, 4]
    assert result.samples == b"" and result.metrics["val/loss"] == witness.objectives[4]


def test_a_stop_at_the_last_evaluation_is_a_complete_training():
    result = train(tiny("trainer.max_steps=4", "trainer.val_every=2"), Witness(stop_at=4))
    assert (result.outcome, result.step) == ("complete", 4)


@pytest.mark.parametrize(("stop_at", "step"), [(2, 2), (3, 4), (4, 4)])
def test_stop_at_ends_at_the_first_evaluation_from_there(stop_at, step):
    result = train(tiny("trainer.max_steps=8", "trainer.val_every=2"), stop_at=stop_at)
    assert (result.outcome, result.step) == ("stopped", step)


def test_a_batch_in_parts_is_the_batch() -> None:
    """The same losses up to rounding; what layers draw is another for each part."""
    whole, parts = Witness(), Witness()
    for witness, count in ((whole, 1), (parts, 4)):
        cfg = tiny("trainer.max_steps=6", "trainer.val_every=3", f"trainer.accumulate={count}", "optimizer=sgd")
        assert train(cfg, witness).outcome == "complete"
    assert list(parts.losses.values()) == pytest.approx(list(whole.losses.values()), rel=1e-5)
    assert parts.objectives == pytest.approx(whole.objectives, rel=1e-4)
    drawn = prepare(tiny("activation=rrelu", "dropout=0.5"))
    layer = next(m for m in drawn.denoiser.modules() if isinstance(m, Stochastic)).train()
    x, seen = -torch.ones(4, 100), []
    for drawn.clock.part in (0, 1, 0):
        seen.append(layer(x))
    assert torch.equal(seen[0], seen[2]) and not torch.equal(seen[0], seen[1])
    for wrong in (["trainer.accumulate=3"], ["trainer.accumulate=2", "optimizer=sophia"]):
        with pytest.raises(UserError, match="trainer.accumulate="):
            prepare(tiny(*wrong))


def test_a_stopped_training_has_the_weights_of_the_whole_one_at_that_step():
    """What a search prunes and what it goes on with are the same training."""
    whole, part = Witness(), Witness()
    train(tiny("trainer.max_steps=8", "trainer.val_every=4"), whole)
    train(tiny("trainer.max_steps=8", "trainer.val_every=4"), part, stop_at=4)
    assert part.objectives == {4: whole.objectives[4]}


@pytest.mark.parametrize("model", TINY)
def test_training_learns(model):
    start = train(tiny("trainer.max_steps=1", "trainer.val_samples=64", model=model)).metrics["val/loss"]
    steps = ["trainer.max_steps=120", "trainer.val_every=120", "trainer.val_samples=64", "optimizer.lr=0.01"]
    assert train(tiny(*steps, model=model)).metrics["val/loss"] < 0.8 * start


WILD = (
    "optimizer=sgd optimizer.space.lr.high=1e9 optimizer.lr=1e6 initializer=normal initializer.std=0.2 "
    "zero_output=false trainer.max_steps=60 trainer.val_every=60 lr_schedule=constant"
).split()


@pytest.mark.parametrize("log_every", [1, 5, 7])
def test_a_diverging_training_ends_within_one_look(log_every):
    cfg = tiny(*WILD, f"trainer.log_every={log_every}")
    bad = first_bad_step(cfg)
    witness = Witness()
    result = train(cfg, witness)
    assert (result.outcome, result.failure.kind, result.samples) == ("failed", "diverged", b"")
    assert bad <= result.failure.step == result.step <= bad + log_every
    assert result.failure.step == min(step for step in range(bad, 61) if step % log_every == 0)
    layers = dict(prepare(cfg).denoiser.backbone.named_modules())
    assert result.failure.layer in layers and result.failure.layer in result.failure.message
    assert str(result.failure.step) in result.failure.message and witness.objectives == {}


def first_bad_step(cfg) -> int:
    """By a plain loop: the first step whose loss is above ten times the first one, or none at all."""
    losses = [loss for _, loss in plain_loop(cfg)]
    return next(step for step, loss in enumerate(losses, 1) if not loss <= cfg.trainer.diverged_at * losses[0])


@pytest.mark.parametrize("loss", [20.1, 1e9, math.inf, math.nan])
def test_diverged_is_a_loss_above_so_many_times_the_first(loss):
    monitor, module = (
        TrainingMonitor(None, log_every=1, health_every=1, diverged_at=10.0, stop_at=None),
        prepare(tiny()),
    )
    for step, fine in enumerate([2.0, 0.1, 19.9], start=1):
        monitor.check(step, fine, module)
    with pytest.raises(Diverged, match="step 4"):
        monitor.check(4, loss, module)


def test_a_training_that_does_not_diverge_is_left_alone():
    assert train(tiny("optimizer=sgd", "trainer.max_steps=20", "trainer.val_every=20")).outcome == "complete"


# ---------------------------------------------------------------- pictures and weights


def test_samples_are_drawn_anew_from_a_file_of_weights(tmp_path):
    from safetensors.torch import save_file

    cfg = tiny("trainer.max_steps=2", "model.class_conditional=true", "solver.images=3")
    result: Result = train(cfg)
    path = tmp_path / "weights.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in result.weights.items()}, path)
    assert sample(cfg, path) == result.samples
    assert sample(cfg, path, seed=1) != result.samples
    with pytest.raises(UserError, match="not the weights of this config"):
        sample(tiny("model.width=16"), path)


def test_drawing_leaves_the_model_in_its_mode():
    module = prepare(tiny("dropout=0.5", "solver.images=3"))
    module.denoiser.train()
    one, other = (draw(tiny("solver.images=3"), module.denoiser, module.data) for _ in range(2))
    assert module.denoiser.training and torch.equal(one, other) and one.shape == (3, 1, 8, 8)


def test_the_sha_is_of_names_shapes_and_bytes():
    weights = {"a": torch.arange(4.0), "b": torch.zeros(2, 2)}
    digest = sha256(weights)
    assert sha256({"b": torch.zeros(2, 2), "a": torch.arange(4.0)}) == digest
    assert sha256({**weights, "b": torch.zeros(4)}) != digest
    assert sha256({"a": torch.arange(4.0), "c": torch.zeros(2, 2)}) != digest
    assert sha256({**weights, "a": torch.arange(4.0) + 1e-6}) != digest
    strided = torch.zeros(2, 2, 3, 3).to(memory_format=torch.channels_last)
    assert sha256({"a": strided}) == sha256({"a": strided.contiguous()})
