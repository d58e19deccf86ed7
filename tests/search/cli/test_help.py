"""What is printed before anything is done: --help of a verb, --cfg with its comments, --info; the shortest command."""

import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from denoise.config import catalog
from denoise.config.compose import compose
from search.__main__ import VERBS, main
from search.cli.commented import LEFT_OUT, commented
from search.trial.config_hash import config_sha256
from search.trial.shortest import shortest


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_of_a_verb_says_what_it_takes(verb: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([verb, flag])
    out = capsys.readouterr().out
    assert out.startswith("usage: ") and f" {verb} " in out.splitlines()[0] and VERBS[verb] in out
    assert max(map(len, out.splitlines())) <= 120
    for kind in catalog.KINDS if verb in ("search", "train") else ():
        said = " ".join(out.split())
        assert all(re.search(rf"\b{option}\b", said) for option in catalog.options(kind))
    assert ("--run RUN" in out) == (verb in ("best", "reproduce", "report", "sample", "trials", "remove"))
    if verb == "search":
        assert "search.n_trials" in out and "sampler" in out


@pytest.mark.parametrize(
    ("overrides", "root"), [((), "train"), ((), "search"), (("trainer=cpu", "model=dit", "activation=swish"), "search")]
)
def test_cfg_is_the_config_with_comments_and_without_limits(overrides: tuple[str, ...], root: str) -> None:
    from omegaconf import OmegaConf

    composed = compose(overrides, root)
    text = commented(composed, root)

    def without(node: object) -> object:
        return {k: without(v) for k, v in node.items() if k not in LEFT_OUT} if isinstance(node, dict) else node

    assert yaml.safe_load(text) == yaml.safe_load(
        OmegaConf.to_yaml(OmegaConf.create(without(OmegaConf.to_container(composed.cfg))))
    )  # type: ignore[arg-type]
    lines = {line.split(":")[0].strip(): line for line in text.splitlines()}
    assert "# optimizer steps" in lines["max_steps"] and "# keys every stream" in lines["seed"]
    assert not any(name in lines for name in LEFT_OUT)


@pytest.mark.parametrize("words", [["--cfg", "job"], ["--cfg"], ["--cfg", "all"]])
def test_cfg_is_typed_as_for_hydra(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["train", *words, "optimizer.lr=0.01"])
    assert yaml.safe_load(capsys.readouterr().out)["optimizer"]["lr"] == 0.01


def test_info_says_which_file_each_option_has(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["train", "--info", "activation=swish"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("activation ")]
    assert line.split() == ["activation", "swish", str(catalog.CONF / "activation" / "swish.yaml")]


def test_hydras_own_config_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--cfg", "hydra"]) == 2 and "--cfg alone shows the config" in capsys.readouterr().err


CHOICES = {
    "activation": ["silu", "swish", "relu"],
    "optimizer": ["adamw", "lion", "muon"],
    "optimizer.lr": ["0.002", "0.01"],
    "model": ["unet", "dit"],
    "trainer.max_steps": ["300", "8"],
    "activation@parts.transformer.activation": ["gelu", "silu"],
}


@settings(max_examples=15)
@given(st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in CHOICES.items()}))
def test_the_shortest_command_gives_the_same_config(chosen: dict[str, str]) -> None:
    overrides = [f"{name}={value}" for name, value in chosen.items()]
    short = shortest(overrides)
    assert config_sha256(compose(short)) == config_sha256(compose(overrides)) and set(short) <= set(overrides)
    for text in short:
        less = [each for each in short if each != text]
        try:
            assert compose(less).cfg != compose(short).cfg
        except Exception as error:
            assert type(error).__name__ == "UserError"


def test_what_is_the_default_is_left_out() -> None:
    assert shortest(["activation=silu", "optimizer=adamw", "optimizer.lr=0.002", "seed=1"]) == ["seed=1"]
