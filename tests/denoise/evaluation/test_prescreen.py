"""The pre-screen: what is dead is rejected with its reason, what learns is not, and no training is disturbed."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from denoise.config import catalog, compose
from denoise.errors import UserError
from denoise.evaluation.prescreen import ENOUGH, LOOKS, Readings, reason, screen
from denoise.training.build import prepare
from denoise.training.train import fit, train

TINY = (
    "model.width=8 model.embedding_dim=16 model.num_heads=2 data.batch_size=16 trainer.val_samples=64 "
    "trainer.accelerator=cpu trainer.num_threads=1 solver.images=1 solver.steps=2 trainer.gap_samples=0"
).split()
OPTIONS = [(kind, option) for kind in catalog.KINDS for option in catalog.options(kind)]


def tiny(*overrides: str):
    return compose.compose([*TINY, *overrides]).cfg


# ---------------------------------------------------------------- what is rejected

FAR = "optimizer.space.lr.high=1e31 optimizer.space.lr.low=0.0"
DEAD = {
    "initializer=zeros": "no gradient reaches ",
    "initializer=zeros normalization=none activation=relu": "no gradient reaches ",
    "initializer=tiny_normal normalization=none optimizer=sgd": "no gradient reaches ",
    "initializer=tiny_normal activation=lisht normalization=none": "no gradient reaches ",
    "lr_schedule=constant initializer=huge_normal normalization=none": "exploding: loss ",
    "lr_schedule=constant initializer=huge_normal normalization=none activation=squared_relu": "exploding: loss ",
    f"optimizer=sgd lr_schedule=constant optimizer.lr=1e3 {FAR}": "exploding: loss ",
    f"optimizer=sgd lr_schedule=constant optimizer.lr=1e30 {FAR}": "not finite: loss ",
    f"optimizer.lr=1e-12 {FAR}": "the loss does not move: ",
    f"optimizer.lr=5e-5 {FAR}": "the loss hardly falls: ",
}


@pytest.mark.parametrize(("overrides", "said"), DEAD.items())
def test_what_is_dead_is_rejected_with_its_reason_and_a_training_learns_nothing(overrides: str, said: str) -> None:
    cfg = tiny(*overrides.split(), "trainer.max_steps=60", "trainer.val_every=60")
    found = screen(cfg)
    assert found.rejected.startswith(said) and "\n" not in found.rejected
    result = train(cfg)
    assert result.outcome == "failed" or result.metrics["val/loss"] > 0.98


def at_defaults(kind: str, option: str):
    """The tiny config with one option, without composing all of it again."""
    cfg = BASE.copy()
    found = catalog.entry(kind, option)
    cfg[kind] = {"_target_": found.target, **found.parameters}
    return cfg


BASE = tiny()


@pytest.mark.parametrize(("kind", "option"), [pair for pair in OPTIONS if pair != ("initializer", "zeros")])
def test_no_option_is_rejected_at_its_defaults(kind: str, option: str) -> None:
    """All of them learn, the controls but zeros too, if only a little."""
    if catalog.entry(kind, option).needs:
        pytest.skip("has no defaults")
    found = screen(at_defaults(kind, option))
    assert found.rejected == "" and ENOUGH <= len(found.figures.losses) <= LOOKS
    assert all(map(math.isfinite, found.figures.losses))


def test_a_config_of_an_option_is_the_composed_one() -> None:
    composed = tiny("optimizer=soap").optimizer
    given = at_defaults("optimizer", "soap").optimizer
    assert {name: composed[name] for name in given} == given and set(composed) - set(given) == {"limits", "space"}


@pytest.mark.parametrize("overrides", ["zero_output=false", "placement=post normalization=none", "dropout=0.3"])
@pytest.mark.parametrize("model", ["", "model=dit model.dim=16 model.depth=1"])
def test_no_backbone_is_rejected(model: str, overrides: str) -> None:
    common = [one for one in TINY if not (model and one.startswith("model.width"))]
    assert screen(compose.compose([*common, *model.split(), *overrides.split()]).cfg).rejected == ""


def test_an_exploding_config_is_saved_by_clipping() -> None:
    overrides = f"lr_schedule=constant optimizer=sgd optimizer.lr=3 {FAR}".split()
    assert screen(tiny(*overrides)).rejected.startswith(("exploding", "not finite"))
    assert screen(tiny(*overrides, "trainer.gradient_clip=0.01")).rejected == ""


# ---------------------------------------------------------------- the rule


def figures(losses=(1.0, 0.98, 0.95, 0.9), gradient=1e-3, **others) -> Readings:
    return Readings(
        list(losses), {"a": gradient, "b": gradient}, **({"spread": 0.5, "varied": 0.4, "moved": 0.1} | others)
    )


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (figures(), ""),
        (figures((1.0, math.nan)), "not finite: loss nan after 1 steps"),
        (figures((math.inf,)), "not finite: loss inf at initialization"),
        (figures((1.0, 12.0, 1.1)), "exploding: loss 12 at most and 1.1 after 2 steps, 1 at first"),
        (figures((1.0, 12.0, 0.9)), ""),
        (figures((1.0, 12.0, 1.1), warmed=True), ""),
        (figures((1.0, math.nan), warmed=True), ""),
        (figures((1.0, 1.2, 1.1), varied=0.0, warmed=True), ""),
        (figures((1.0, 1.01, 1.0), varied=0.0, warmed=True), "the output is the same for every image after 2 steps"),
        (figures(not_finite="up.0"), "not finite: the gradient of up.0 after 3 steps"),
        (figures(gradient=1e-12), "no gradient reaches a and 1 more of 2 layers"),
        (figures(spread=1e-3, varied=1e-3), "the output is constant after 3 steps"),
        (figures(varied=1e-3), "the output is the same for every image after 3 steps"),
        (figures((1.0, 1.0, 1.0)), "the loss does not move: 1 after 2 steps"),
        (figures((0.3, 0.3, 0.3)), ""),
        (
            figures((1.0, 0.9999, 0.9998)),
            "the loss hardly falls: 0.9998 after 2 steps, 1 at first; 100 steps are too few",
        ),
        (figures((1.0, 0.9999, 0.9998), moved=1e-5), ""),
        (figures((1.0, 0.99999, 0.9999, 0.9995)), ""),
        (figures((0.3, 0.2999, 0.2998)), ""),
    ],
)
def test_each_reason(found: Readings, said: str) -> None:
    given_reason = reason(found, 100, 10.0)
    assert given_reason.startswith(said) and bool(given_reason) == bool(said)


POSITIVE = st.floats(1e-12, 1e12)


@given(st.lists(POSITIVE, min_size=1, max_size=8), POSITIVE, POSITIVE, POSITIVE, st.integers(1, 10**6))
def test_a_longer_training_and_a_later_end_reject_nothing_more(losses, gradient, varied, moved, steps) -> None:
    found = figures(losses, gradient, spread=varied, varied=varied, moved=moved)
    kept = reason(found, steps, 10.0) == ""
    if kept:
        assert reason(found, 2 * steps, 10.0) == "" and reason(found, steps, 20.0) == ""


@given(st.lists(st.floats(0.01, 0.2), min_size=3, max_size=7), st.integers(50, 10**6))
def test_a_loss_that_falls_a_percent_a_step_is_kept(falls: list[float], steps: int) -> None:
    losses = [1.0]
    for fall in falls:
        losses.append(losses[-1] * (1 - fall))
    assert reason(figures(losses), steps, 10.0) == ""


# ---------------------------------------------------------------- nothing is disturbed

STEPS = "trainer.max_steps=6 trainer.val_every=3 trainer.health_every=2".split()
MIXED = (
    "dropout=0.1 normalization=batch_norm weight_normalization=spectral_norm optimizer=muon",
    "activation=gelu_stochastic initializer=lsuv optimizer=schedule_free_adamw",
    "activation=rrelu weight_normalization=magnitude_preserving optimizer=sophia",
    "weight_normalization=weight_norm optimizer=prodigy zero_output=false trainer.deterministic=false",
)


@pytest.mark.parametrize("overrides", MIXED)
def test_a_training_after_a_screen_is_the_same_bit_for_bit(overrides: str) -> None:
    """With the screen's own module, and with a copy of the one that is trained."""
    cfg = tiny(*STEPS, *overrides.split())
    alone = train(cfg)
    module = prepare(cfg)
    before, flags = torch.get_rng_state(), torch.are_deterministic_algorithms_enabled()
    first = screen(cfg)
    second = screen(cfg, module)
    assert torch.equal(torch.get_rng_state(), before) and torch.are_deterministic_algorithms_enabled() == flags
    assert first.figures == second.figures and first.rejected == second.rejected == ""
    after = fit(cfg, module, None, None, None)
    assert after.weights_sha256 == alone.weights_sha256
    assert after.metrics["val/loss"] == alone.metrics["val/loss"]


def test_the_looks_are_the_first_steps_of_a_plain_loop() -> None:
    cfg = tiny("lr_schedule=constant", "optimizer=sgd")
    module = prepare(cfg)
    lr, losses = module.configure_optimizers()["optimizer"].param_groups[0]["lr"], []
    inputs = module.draw(0)
    for _ in range(LOOKS):
        loss = module.denoiser.loss(*inputs).mean()
        losses.append(loss.item())
        parameters = list(module.denoiser.parameters())
        with torch.no_grad():
            for p, g in zip(parameters, torch.autograd.grad(loss, parameters, materialize_grads=True), strict=True):
                p -= lr * g
    found = screen(cfg).figures.losses
    assert found == pytest.approx(losses[: len(found)], rel=1e-5)


def test_warm_up_is_left_out() -> None:
    one, other = (screen(tiny(f"lr_schedule={name}")).figures for name in ("warmup_cosine", "constant"))
    assert one.warmed and not other.warmed
    assert replace(one, warmed=False) == other


def test_a_refusal_passes_through() -> None:
    with pytest.raises(UserError, match="initializer.path="):
        screen(tiny("initializer=pretrained"))
