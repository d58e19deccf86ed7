"""The claims of the texts: what can be computed of them, against formulas and integrals; the page, against results."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import optimize, special, stats

from denoise.denoiser.edm import EDM
from experiments.claims import __main__ as command
from experiments.claims import denoisers, depth, dying, ensemble, page, shapes, steps, symmetry
from experiments.claims.finding import HOLDS, NOT, PART, Check, Finding
from experiments.claims.plot import Axis, Line, Panel, Plot, draw
from tests.pictures import HOSTILE, parsed, texts

Curve = Callable[[np.ndarray], np.ndarray]
Z, WEIGHT = np.polynomial.hermite_e.hermegauss(200)
WEIGHT = WEIGHT / WEIGHT.sum()

CURVES: dict[str, tuple[Curve, Curve]] = {  # f and f', written anew
    "sigmoid": (special.expit, lambda z: special.expit(z) * special.expit(-z)),
    "tanh": (np.tanh, lambda z: 1 / np.cosh(z) ** 2),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0),
    "leaky_relu": (lambda z: np.where(z > 0, z, 0.01 * z), lambda z: np.where(z > 0, 1, 0.01)),
    "elu": (lambda z: np.where(z > 0, z, np.expm1(z)), lambda z: np.where(z > 0, 1, np.exp(z))),
    "gelu": (lambda z: z * special.ndtr(z), lambda z: special.ndtr(z) + z * stats.norm.pdf(z)),
    "silu": (
        lambda z: z * special.expit(z),
        lambda z: special.expit(z) * (1 + z * special.expit(-z)),
    ),
    "swish": (
        lambda z: z * special.expit(z),
        lambda z: special.expit(z) * (1 + z * special.expit(-z)),
    ),
    "mish": (
        lambda z: z * np.tanh(np.logaddexp(0, z)),
        lambda z: np.tanh(np.logaddexp(0, z)) + z * special.expit(z) / np.cosh(np.logaddexp(0, z)) ** 2,
    ),
}


def mean(f: Curve, q: float = 1.0) -> float:
    """E f(sqrt(q) z), z ~ N(0, 1)."""
    return float((WEIGHT * f(math.sqrt(q) * Z)).sum())


def in_the_mean(name: str, gain: float, layers: int) -> tuple[list[float], float]:
    """Variances of W h layer by layer, and gradient at the first / at the last, for infinitely wide layers."""
    f, slope = CURVES[name]
    variance, kept = [gain**2], 1.0
    for _ in range(layers - 1):
        q = variance[-1]
        kept *= gain**2 * mean(lambda z: slope(z) ** 2, q)
        variance.append(gain**2 * mean(lambda z: f(z) ** 2, q))
    return variance, math.sqrt(kept)


@pytest.mark.parametrize(
    ("name", "start", "gain"),
    [
        ("sigmoid", depth.XAVIER, 1.0),
        ("tanh", depth.XAVIER, 1.0),
        ("tanh", ("xavier_normal", {"gain": "torch"}), 5 / 3),
        ("relu", depth.KAIMING, math.sqrt(2)),
        ("relu", depth.XAVIER, 1.0),
        ("gelu", depth.KAIMING, math.sqrt(2)),
        ("silu", depth.DEFAULT, math.sqrt(1 / 3)),
    ],
)
def test_stacks_are_those_of_infinite_width_but_for_chance(name: str, start: depth.Start, gain: float) -> None:
    layers = 6
    found = [depth.flow(name, start, seed=seed, depth=layers, width=512) for seed in range(4)]
    variance, kept = in_the_mean(name, gain, layers)
    measured = np.mean([one.variance for one in found], axis=0)
    assert measured == pytest.approx(variance, rel=0.3)
    assert np.mean([one.gradient_kept for one in found]) == pytest.approx(kept, rel=0.15)


def test_with_depth_sigmoid_loses_its_gradient_tanh_little_relu_none() -> None:
    """Claim 1. Sigmoid's slope is at most 1/4, whatever it meets; tanh's variance falls until its slope is near 1."""
    kept = {name: in_the_mean(name, gain, 50)[1] for name, gain in (("sigmoid", 1), ("tanh", 1), ("relu", 2**0.5))}
    assert kept["sigmoid"] < 0.25**49 and kept["relu"] == pytest.approx(1)
    longer = in_the_mean("tanh", 1.0, 200)[1]
    assert 0.1 < kept["tanh"] < 0.2 and longer / kept["tanh"] == pytest.approx(math.sqrt(50 / 200), rel=0.1)


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu"])
def test_with_batch_norm_no_gradient_is_lost(name: str) -> None:
    """Claim 1. Standardizing makes every layer's factor sqrt(E f'^2 / Var f), at least 1 by Poincaré's inequality."""
    f, slope = CURVES[name]
    factor = math.sqrt(mean(lambda z: slope(z) ** 2) / (mean(lambda z: f(z) ** 2) - mean(f) ** 2))
    found = [depth.flow(name, depth.XAVIER, "batch_norm", seed, depth=8, width=256) for seed in range(3)]
    assert factor > 1
    assert np.mean([one.gradient_kept for one in found]) == pytest.approx(factor**7, rel=0.2)
    assert found[0].variance == pytest.approx([1] * 8, rel=1e-3)


def test_the_weights_gradient_is_the_activations_unless_a_norm_lies_between() -> None:
    """Behind batch_norm it is divided by the deviation of W h, first 1 and then sigmoid's 0.2 or so."""
    plain = depth.flow("tanh", depth.XAVIER, depth=4, width=32)
    assert plain.weights == pytest.approx(plain.gradient, rel=1e-12)
    normed = depth.flow("sigmoid", depth.XAVIER, "batch_norm", depth=4, width=256)
    ratio = [w / g for w, g in zip(normed.weights, normed.gradient, strict=True)]
    assert ratio[0] == pytest.approx(1, rel=0.1) and ratio[1:] == pytest.approx([1 / 0.208] * 3, rel=0.1)


def test_he_keeps_relus_variance_xavier_halves_it_and_tanhs_falls_under_xavier() -> None:
    """Claim 2. In the mean over weights; tanh^2 = z^2 - 2/3 z^4 makes its variance fall as 1 / (2 layers)."""
    assert in_the_mean("relu", 2**0.5, 50)[0] == pytest.approx([2] * 50)
    assert in_the_mean("relu", 1.0, 50)[0] == pytest.approx([0.5**k for k in range(50)])
    variance = in_the_mean("tanh", 1.0, 1000)[0]
    assert 2 * 1000 * variance[-1] == pytest.approx(1, rel=0.05)
    assert in_the_mean("tanh", 5 / 3, 50)[0][-1] == pytest.approx(in_the_mean("tanh", 5 / 3, 500)[0][-1], rel=1e-6)


@pytest.mark.parametrize("name", [*depth.KIN, *depth.LOSING])
def test_what_a_layer_makes_of_a_deviation_from_variance_one(name: str) -> None:
    """Claim 2. Against the difference quotient of the variance map at gain auto."""
    f = CURVES[name][0]
    after = [mean(lambda z: f(z) ** 2, q) for q in (1.001, 0.999)]
    quotient = (math.log(after[0]) - math.log(after[1])) / (math.log(1.001) - math.log(0.999))
    assert depth.variance_slope(name) == pytest.approx(quotient, abs=2e-3)


@pytest.mark.parametrize(("initializer", "activation"), symmetry.CASES)
def test_equal_units_stay_equal_and_zeros_learn_nothing_where_f_of_0_is_0(initializer: str, activation: str) -> None:
    """Claim 3."""
    trace = symmetry.Trace(initializer, activation, steps=20)
    drawn = initializer == "kaiming_normal" or activation == "gelu_stochastic"
    assert (max(trace.difference) > 1e-4) == drawn and (trace.rank > 1) == drawn
    if initializer == "zeros":
        assert (trace.gradient == 0) == (activation != "sigmoid")


@pytest.mark.parametrize("name", dying.ALL)
def test_slopes_far_to_the_left(name: str) -> None:
    """Claim 4: in float64 against the formula; in float32 only leaky_relu's never comes to an end."""
    z = torch.tensor([-0.5, -2.0, -5.0, -8.0, -20.0, -30.0], dtype=torch.float64)
    assert dying.slope(name, z).numpy() == pytest.approx(CURVES[name][1](z.numpy()), rel=1e-6, abs=1e-15)
    end = dying.silent_below(name)
    low, high = {"relu": (0, 0), "leaky_relu": (-math.inf, -math.inf), "gelu": (-20, -5)}.get(name, (-125, -75))
    assert low <= end <= high


def test_a_large_negative_bias_kills_relu_units_and_no_others() -> None:
    """Claim 4."""
    share = {name: dying.at_bias(name, -10) for name in dying.ALL}
    assert share["relu"] == (0, 1)
    assert all(gradient > 0 and silent < 1 for name, (gradient, silent) in share.items() if name != "relu")


@given(sigma=st.floats(1e-3, 1e3), beta=st.floats(1e-2, 1e3))
@settings(max_examples=20, deadline=None)
def test_distances_to_relu_are_multiples_of_sigma_and_of_one_over_beta(sigma: float, beta: float) -> None:
    """Claim 5: sup |gelu_sigma - relu| = sigma sup |gelu - relu|, sup |swish - relu| = sup |silu - relu| / beta."""
    relu, x = shapes.build("relu"), shapes.grid(-6, 6, 24_001)
    gelu = optimize.minimize_scalar(lambda z: z * special.ndtr(z), bounds=(-3, 0), method="bounded").fun
    silu = optimize.minimize_scalar(lambda z: z * special.expit(z), bounds=(-3, 0), method="bounded").fun
    near, far = shapes.build("gelu_sigma", sigma=sigma), shapes.build("swish", beta=beta)
    assert shapes.distance(near, relu, sigma * x) == pytest.approx(-gelu * sigma, rel=1e-5)
    assert shapes.distance(far, relu, x / beta) == pytest.approx(-silu / beta, rel=1e-5)


def test_swish_is_silu_at_1_and_half_its_input_near_0() -> None:
    """Claim 5. |sigmoid(beta x) - 1/2| is below beta |x| / 4."""
    x = shapes.grid(-20, 20, 4001)
    assert shapes.distance(shapes.build("swish", beta=1.0), shapes.build("silu"), x) < 1e-14
    for beta in (0.1, 0.01, 1e-4):
        assert shapes.distance(shapes.build("swish", beta=beta), shapes.Half(), x) <= 20**2 * beta / 4
    assert shapes.distance(shapes.build("swish", beta=0.1), shapes.Half(), shapes.grid(-1e4, 1e4, 101)) > 1e3


@pytest.mark.parametrize("name", shapes.BUMPED)
def test_a_minimum_below_zero_and_none_lower(name: str) -> None:
    """Claim 5: not monotonic, bounded below."""
    f, slope = CURVES[name]
    at = optimize.brentq(slope, -3, -0.3)
    found = shapes.minimum(shapes.build(name))
    assert found == pytest.approx((at, float(f(np.array(at)))), abs=1e-5)
    assert (slope(np.linspace(-9, at - 1e-3, 999)) < 0).all() and (slope(np.linspace(at + 1e-3, 9, 999)) > 0).all()


def test_softplus_and_mish_have_no_kink_elu_and_relu_have() -> None:
    """Claim 5: jumps of the first and the second derivative."""
    x = shapes.grid(-5, 5, 2001)
    jumps = {
        name: [shapes.jump(shapes.build(name), k, x) for k in (1, 2)] for name in ("softplus", "mish", "elu", "relu")
    }
    assert max(*jumps["softplus"], *jumps["mish"]) < 1e-4
    assert jumps["relu"][0] == pytest.approx(1) and jumps["elu"][1] == pytest.approx(1, abs=1e-4)
    assert jumps["elu"][0] < 1e-4


@pytest.mark.parametrize("betas", steps.BETAS)
def test_first_steps_of_adam_with_and_without_its_correction(betas: tuple[float, float]) -> None:
    """Claim 6: under a gradient of 1 the moments are 1 - b^t."""
    t = np.arange(1, 41)
    wanted = (1 - betas[0] ** t) / np.sqrt(1 - betas[1] ** t)
    assert steps.moves("adam_uncorrected", 40, betas=list(betas)) == pytest.approx(wanted, rel=1e-5)
    assert steps.moves("adam", 40, betas=list(betas)) == pytest.approx(np.ones(40), rel=1e-5)


def test_adagrads_step_shrinks_and_rmsprops_settles() -> None:
    """Claim 7: 1 / sqrt(t), and 1 / sqrt(1 - alpha^t)."""
    t = np.arange(1, 301)
    assert steps.moves("adagrad", 300) == pytest.approx(t**-0.5, rel=1e-6)
    for alpha in (0.9, 0.99):
        assert steps.moves("rmsprop", 300, alpha=alpha) == pytest.approx((1 - alpha**t) ** -0.5, rel=1e-5)


def test_sgd_stalls_at_a_flat_saddle_where_momentum_passes() -> None:
    """Claim 7. For small x, x' = -x^2 has x = 1 / t."""
    slow, fast = steps.descend("sgd", "flat", 1000, 0.05), steps.descend("momentum", "flat", 1000, 0.05)
    assert steps.passed("flat", slow) is None and min(slow) > 0
    assert slow[-1] == pytest.approx(1 / (0.05 * 1000), rel=0.2)
    assert (steps.passed("flat", fast) or math.inf) < 50 and fast[-1] == pytest.approx(-1, abs=1e-3)


def test_at_a_strict_saddle_sgd_is_slow_and_on_the_ridge_nobody_leaves() -> None:
    """Claim 7. Near the saddle each step of sgd multiplies x by 1 + lr."""
    slow, fast = steps.descend("sgd", "strict", 400, 0.05), steps.descend("momentum", "strict", 400, 0.05)
    assert slow[100] == pytest.approx(1e-6 * 1.05**100, rel=1e-3) and slow[-1] == pytest.approx(1, abs=1e-2)
    assert 2 * (steps.passed("strict", fast) or math.inf) < (steps.passed("strict", slow) or 0)
    for optimizer in ("sgd", "momentum", "nesterov", "rmsprop", "adam"):
        assert set(steps.descend(optimizer, "strict, on its ridge", 100, 0.05)) == {0.0}


@given(seed=st.integers(0, 2**31), members=st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_an_ensemble_is_better_by_its_spread(seed: int, members: int) -> None:
    """Claim 9: mean loss of the members - loss of their mean = spread of the members, for every triple."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731

    class FixedSet:
        images, sigma = draw(7, 1, 4, 4), draw(7).exp()

    one = denoisers.Trained(EDM(torch.nn.Identity(), 0.5, -1.2, 1.2), FixedSet(), 0.0)  # type: ignore[arg-type]
    predictions = draw(members, 7, 1, 4, 4).double()
    each = torch.stack([denoisers.losses(p, one) for p in predictions]).mean(0)
    gap = each - denoisers.losses(predictions.mean(0), one)
    assert torch.allclose(gap, ensemble.spread_of(predictions, one)) and (gap > -1e-12).all()


def test_the_loss_of_a_prediction_is_the_objective() -> None:
    one = denoisers.trained(0, 3, 4, "trainer.val_samples=16")
    assert denoisers.losses(denoisers.predict(one), one).mean().item() == pytest.approx(one.loss, rel=1e-5)


def test_verdicts() -> None:
    yes, no, nan = Check("a", 1, 0, 2), Check("b", 3, high=2), Check("c", math.nan)
    assert [Finding(checks, [], Plot("", [])).verdict for checks in ([yes], [yes, no], [no, nan])] == [HOLDS, PART, NOT]
    assert [each.expected for each in (yes, no, Check("d", 0, 5, 5))] == ["0 to 2", "at most 2", "5"]


def test_the_page_is_that_of_the_results() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert text == page.written(page.read(), text), f"{page.COMMAND} page writes docs/claims.md anew"
    assert set(page.read()) == set(command.CLAIMS)


@pytest.mark.parametrize("number", command.CLAIMS)
def test_a_plot_is_that_of_the_results(number: str) -> None:
    content = (page.PLOTS / f"{number}.svg").read_bytes()
    plot = page.plots()[number]
    assert content == draw(plot) and len(content) < 80_000
    written = texts(parsed(content)).splitlines()
    assert {
        name for each in plot.panels for name in (each.title, each.x.name, *(line.name for line in each.lines))
    } < set(written)


def test_a_page_without_its_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="verdicts"):
        page.written({}, "## 1. Nothing\n")


def test_a_plot_takes_zeros_and_what_is_not_finite() -> None:
    line = Line(HOSTILE, [0, 1, 2, 3], [0.0, math.nan, math.inf, 1e-3], dashed=True)
    panel = Panel(HOSTILE, Axis("x"), Axis("y", True, 1e-6, 10), [line])
    assert panel.points(line).tolist() == [[0, 2, 3], [1e-6, 10, 1e-3]], "zero at the floor, inf at the top, no NaN"
    for plot in (Plot(HOSTILE, [panel]), Plot("x", []), Plot("x", [Panel("", Axis(""), Axis(""), [])])):
        parsed(draw(plot))


@given(st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=400), st.booleans())
@settings(max_examples=30, deadline=None)
@example([1.0, 1.0 + 1e-15], True)
@example([1.0, 1.0], False)
def test_what_is_kept_of_a_plot_is_drawn_where_it_was(values: list[float], log: bool) -> None:
    panel = Panel("p", Axis("x"), Axis("y", log), [Line("a", list(range(len(values))), values)])
    (kept,) = Plot.of(json.loads(json.dumps(Plot("t", [panel]).as_json()))).panels
    x, y = kept.points(kept.lines[0])
    assert x[0] == 0 and x[-1] == len(values) - 1 and y == pytest.approx([values[int(i)] for i in x], rel=1e-3)


def test_one_claim_leaves_the_others_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "PAGE", tmp_path / "claims.md")
    monkeypatch.setattr(page, "PLOTS", tmp_path / "claims")
    monkeypatch.setattr(page, "RESULTS", tmp_path / "claims.jsonl")
    monkeypatch.setattr(page, "LINES", tmp_path / "claims_plots.jsonl")
    names = ("verdicts", "claim 1", "claim 2")
    markers = "\n".join(f"<!-- {n}: made by {page.COMMAND} -->\n<!-- end of {n} -->" for n in names)
    page.PAGE.write_text(f"## 1. One\n## 2. Two\nprose\n{markers}\n")
    for number, value in (("1", 0.5), ("2", math.inf)):
        found = Finding([Check("a|b", value, high=1)], [], Plot("x", []))
        monkeypatch.setitem(command.CLAIMS, number, lambda found=found: found)
        command.run([number])
    assert page.read().keys() == page.plots().keys() == {"1", "2"}
    assert sorted(path.name for path in page.PLOTS.iterdir()) == ["1.svg", "2.svg"]
    text = page.PAGE.read_text()
    assert "**Holds**: 1 of 1" in text and "**Does not hold as written**: 0 of 1" in text and "prose" in text
    assert "| a\\|b | at most 1 | never | **no** |" in text and text == page.written(page.read(), text)


@pytest.mark.parametrize("words", [["claims=10"], ["claim=1"], ["nonsense"]])
def test_a_mistake_is_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(words) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
