"""A value that Hydra cannot read is taken as it was typed, wherever an override goes."""

from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from denoise.config import catalog
from denoise.config.compose import compose, parse, raw_compose
from search.cli import best_file
from search.report import leaderboard
from search.space import search_config as typed
from search.tracking.record import Record, check

PATHS = ["/x/epoch=3-step=10.ckpt", "/home/josé/runs", "/data (old)/x", "~/runs", "/it's #1", "/a,b", "/a{x}[0]\\é"]
VALUES = [
    *PATHS,
    *('/a"b', "/a;b&c|d", "postgresql://one,two/base", "~/a,/b c", "/a<b>", "/x!", "=", "==", "f(x", "日本", "a#b"),
    *("/a\\é\\", "`id`", "/a^b", ")", "/a'b\\'c\\\\"),
]
texts = st.text(st.sampled_from("ab1=/.:,-_ '\"`;&|#\\!(){}[]<>*?~%^@+$éß日"), min_size=1, max_size=10)


def by_hydra(text: str) -> object:
    """What Hydra itself reads; the text's own value where it cannot."""
    try:
        return OverridesParser.create().parse_override(text).value()
    except HydraException:
        return text.partition("=")[2].strip()


@pytest.mark.parametrize("value", PATHS)
def test_a_value_of_odd_signs_is_the_text_that_was_typed(value: str) -> None:
    override = f"data.root={value}"
    given = ["data=fashion_mnist", override]
    assert compose(given).cfg.data.root == value
    assert raw_compose((override, given[0])).cfg.data.root == value
    assert typed.read(given)[0].cfg.data.root == value
    assert check(Record(0, "0", "complete", 1, given)).overrides == given


@settings(max_examples=100, deadline=None)
@example("a b (c)")
@given(texts)
def test_hydra_reads_what_it_can_and_the_rest_is_text(value: str) -> None:
    text = f"store={value}"
    assume(value.strip() and not value.strip().startswith(("'", '"', "[", "{")))
    found = by_hydra(text)
    if not isinstance(found, str | int | float | None):  # a list of values to try, but for a path with a comma
        assume("/" in value)
        found = value.strip()
    assert parse(text).value() == found
    assert parse(str(parse(text).input_line)).value() == found, "what was read is read again"


@pytest.mark.parametrize("value", [*VALUES, "1e-3", "'quoted # text'", "[a b,c]", "null", "${seed}", "true", "0.1"])
def test_best_yaml_has_the_value_that_was_typed(value: str, tmp_path: Path) -> None:
    given = ["data=fashion_mnist", f"data.root={value}", "initializer=he"]
    (tmp_path / "best.yaml").write_bytes(leaderboard.best_yaml(given, "the best", "0"))
    content = yaml.safe_load((tmp_path / "best.yaml").read_text())
    assert content["data"]["root"] == parse(given[1]).value()
    assert content["defaults"][1:3] == [{"override /data": "fashion_mnist"}, {"override /initializer": "he"}]


def test_best_yaml_is_read_as_the_overrides_that_were_typed(tmp_path: Path) -> None:
    path = tmp_path / "best.yaml"
    given = ["data=fashion_mnist", "activation@parts.transformer.activation=swish", "optimizer=adam", "activation=gelu"]
    given += ["+activation.approximate=tanh", "optimizer.betas=[0.8,0.9]", "optimizer.lr=3e-03"]
    for value in [*VALUES, "'1e-3'", "'[1,2]'", "'quoted # text'", "null", "[a,'b c']", "${seed}", "true", "0.1"]:
        path.write_bytes(leaderboard.best_yaml([*given, f"data.root={value}"], "the best", "0"))
        found = {text.partition("=")[0]: parse(text).value() for text in best_file.read(path)}
        assert found == {text.partition("=")[0]: parse(text).value() for text in [*given, f"data.root={value}"]}
    path.write_bytes(leaderboard.best_yaml(given, "the best", "0"))
    assert compose(best_file.read(path)) == compose(given)
    typed = best_file.beneath(path, ["optimizer=sgd", "seed=3"])
    assert typed[-2:] == ["optimizer=sgd", "seed=3"] and not any("betas" in text for text in typed)
    assert compose(typed).choices["optimizer"] == "sgd"


@pytest.mark.parametrize("name", ["it's", "a=b (c)", "josé"])
def test_a_folder_of_ones_own_may_have_any_name(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name / "activation"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("# f\n# s\n_target_: torch.nn.ReLU\nspace: {}\n")
    catalog.add_folder(tmp_path / name)
    assert compose(["activation=mine"]).choices["activation"] == "mine"
