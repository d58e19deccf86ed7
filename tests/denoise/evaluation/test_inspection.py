"""What an inspection says of networks whose depth is known to hurt or not, and the pictures of a network's health."""

import math
from xml.etree import ElementTree

import pytest

from denoise.config import compose
from denoise.evaluation import inspection
from denoise.pictures import health as picture
from denoise.training.train import train
from search.report import network_health

TINY = ["model.width=8", "model.embedding_dim=16", "model.num_heads=2", "data.batch_size=8", "trainer.accelerator=cpu"]


def inspect(*overrides: str) -> inspection.Inspection:
    return inspection.inspect(compose.compose([*TINY, "zero_output=false", *overrides]).cfg)


def test_a_sigmoid_stack_loses_its_gradient_and_a_relu_stack_with_he_keeps_it() -> None:
    sigmoid = inspect("activation=sigmoid", "normalization=none", "initializer=xavier_uniform")
    relu = inspect("activation=relu", "normalization=none", "initializer=kaiming_normal")
    assert sigmoid.stack[0].gradient < 1e-20 * sigmoid.stack[-1].gradient
    assert 0.1 < relu.stack[0].gradient / relu.stack[-1].gradient < 10
    assert 0.1 < relu.stack[-1].signal / relu.stack[0].signal < 10
    assert "vanishes" in network_health.verdict(sigmoid)[1] and "holds" in network_health.verdict(relu)[1]


@pytest.mark.parametrize("model", ["unet", "dit"])
def test_every_activation_layer_of_the_network_is_met_with_its_gradient(model: str) -> None:
    small = ["model=dit", "model.dim=16", "model.depth=2"] if model == "dit" else []
    overrides = [*small, *(o for o in TINY if model == "unet" or "width" not in o), "zero_output=false"]
    found = inspection.inspect(compose.compose(overrides).cfg).network
    assert len(found) == (2 if model == "dit" else 2 * 5 + 3 + 1)
    assert all(row.signal > 0 and row.gradient > 0 and math.isfinite(row.gradient) for row in found)


def test_closed_branches_hand_back_no_gradient() -> None:
    """With zero_output the network's last layer is zero: nothing comes back, and that is said, not hidden."""
    cfg = compose.compose([*TINY, "zero_output=true"]).cfg
    assert all(row.gradient == 0 for row in inspection.inspect(cfg).network)


def test_an_inspection_is_the_same_twice() -> None:
    assert inspect() == inspect()


@pytest.mark.parametrize(
    ("factor", "said"),
    [(0.0, "vanishes"), (1e-9, "vanishes"), (0.01, "shrinks"), (1.0, "holds"), (50.0, "grows"), (math.inf, "explodes")],
)
def test_words_for_factors(factor: float, said: str) -> None:
    assert network_health.word(factor) == said


def test_bars_are_logarithmic() -> None:
    lengths = [len(network_health.bar(v, [1e-4, 1e-2, 1.0], "red").plain) for v in (1e-4, 1e-2, 1.0, 0.0)]
    assert lengths == [0, network_health.CELLS // 2, network_health.CELLS, 0]


def test_a_training_draws_its_layers_by_steps() -> None:
    steps = ["trainer.max_steps=4", "trainer.val_every=4", "trainer.health_every=2", "trainer.val_samples=16"]
    result = train(compose.compose([*TINY, *steps, "solver.images=1", "solver.steps=2"]).cfg)
    drawn = ElementTree.fromstring(result.health)
    titles = [node.text or "" for node in drawn.iter() if node.tag.endswith("title")]
    assert any(title.startswith("embedding.hidden_activation, step 2:") for title in titles)
    assert any(title.startswith("conv_in, step 0:") for title in titles)
    assert result.metrics["health/generalization_gap"] == pytest.approx(0, abs=2)


def test_a_long_training_is_thinned_to_a_readable_picture() -> None:
    history = [(step, {"health/variance/a": 1.0, "health/gradient_norm/w": 1.0}) for step in range(0, 5000, 5)]
    looks = picture.thin(history, picture.COLUMNS)
    assert len(looks) == picture.COLUMNS and looks[0] == history[0] and looks[-1] == history[-1]
    assert len(picture.layers_by_steps(history)) < 50_000


@pytest.mark.parametrize(("layers", "looks"), [(1, 1), (3, 7), (300, 500)])
def test_a_picture_of_health_is_read_at_700_pixels(layers: int, looks: int) -> None:
    names = [f"a.layer.of.a.long.name.that.is.cut.{k}" for k in range(layers)]
    figures = ("variance", "dead_fraction", "saturated_fraction", "gradient_norm")
    look = {f"health/{figure}/{name}": 10.0**-k for figure in figures for k, name in enumerate(names)}
    drawn = ElementTree.fromstring(picture.layers_by_steps([(step, look) for step in range(looks)]))
    assert float(drawn.get("width", 0)) == 700
    for node in drawn.iter():
        if node.tag.endswith("rect") and node.get("x"):
            assert 0 <= float(node.get("x", 0)) <= float(node.get("x", 0)) + float(node.get("width", 0)) <= 700
    said = [node.text for node in drawn.iter() if node.tag.endswith("text")]
    assert said.count("0.001") == said.count("1000") == said.count("0.5") == 2, "each panel has a colour bar"
    assert len([text for text in said if text and text.startswith("…")]) == 2 * min(layers, picture.ROWS)
    assert ("210 layers between are left out" in said) == (layers == 300)


def test_values_that_are_no_figures_are_drawn_black() -> None:
    history = [(0, {"health/variance/a": math.nan, "health/gradient_norm/w": math.inf})]
    assert picture.layers_by_steps(history).count(b"fill='#000'") >= 1
    assert picture.layers_by_steps([]) == b""
