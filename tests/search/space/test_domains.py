"""Domains as a person writes them: null and lists are choices, and what cannot be trained is refused before a trial."""

import re
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf, open_dict
from optuna.storages import RDBStorage

from denoise.config.compose import Composed, compose, next_compose, parse
from denoise.config.limits import as_choice, as_text, as_value
from denoise.errors import UserError
from search.space import search_space
from search.space.search_space import Space
from search.study import corners, migrate
from search.study.modes.ablation import Ablation
from tests import studies
from tests.search.study.test_migrate import OLD, domains_of, filled
from tests.search.study.test_migrate import asked as asked_small

pytestmark = pytest.mark.filterwarnings("ignore")
TINY = ["model.width=8", "model.embedding_dim=16", "model.num_heads=2"]
AT = "+search.domains."
CLIP = AT + "trainer.gradient_clip={type:categorical,choices:[null,1.0]}"
MULT = AT + "model.channel_mult={type:categorical,choices:[[1,2],[1,2,2]]}"
BETAS = "optimizer.space.betas={type:categorical,choices:[[0.9,0.999],[0.9,0.95]]}"
LR = "optimizer.space.lr={type:categorical,choices:[0.001,0.002]}"


def built(*overrides: str) -> Space:
    composed = compose([*TINY, *overrides], "search")
    found = search_space.build(composed, [*TINY, *overrides])
    corners.check(composed, found.free)
    found.point(composed)
    return found


@cache
def base() -> Composed:
    return compose(TINY, "search")


def refused(override: str) -> str:
    """The line that refuses an override; a free domain is laid into a config that is there."""
    with pytest.raises(UserError) as refusal:
        if not override.startswith(AT):
            built(override)
        given, composed = parse(override), Composed(base().cfg.copy(), base().choices)
        with open_dict(composed.cfg):
            OmegaConf.update(composed.cfg, given.key_or_group, given.value())
        found = search_space.build(composed, TINY)
        corners.check(composed, found.free)
        found.point(composed)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
words = st.text("abcxyz019_-. ,'[]{}:=$", max_size=6).filter(lambda text: "$" not in text and text[:1] != "[")


@settings(max_examples=150, deadline=None)
@given(value=st.recursive(plain | words, lambda inner: st.lists(inner, max_size=3), max_leaves=6))
def test_a_value_is_typed_so_that_it_is_read_as_itself(value: object) -> None:
    assert as_value(as_text(value)) == value
    if isinstance(value, list):
        assert as_choice(value) == as_choice(as_text(value)), "a list and its text are one choice"


@pytest.mark.parametrize(
    ("override", "path", "values"),
    [
        (CLIP, "trainer.gradient_clip", [None, 1.0]),
        (MULT, "model.channel_mult", [[1, 2], [1, 2, 2]]),
        (
            AT + 'model.channel_mult={type:categorical,choices:["[1, 2]","[1,3]"]}',
            "model.channel_mult",
            [[1, 2], [1, 3]],
        ),
        (AT + "zero_output={type:categorical,choices:[true,false]}", "zero_output", [True, False]),
        (AT + "parts.transformer.placement={type:categorical,choices:[null,post]}", None, [None, "post"]),
        (BETAS, "optimizer.betas", [[0.9, 0.999], [0.9, 0.95]]),
        ("+" + BETAS, "optimizer.betas", [[0.9, 0.999], [0.9, 0.95]]),
        (LR, "optimizer.lr", [0.001, 0.002]),
    ],
)
def test_null_lists_and_words_are_choices(override: str, path: str | None, values: list[object]) -> None:
    """Each choice composes to its value, the baseline's is found, and the domain is that which was typed."""
    found = built(override, "search.kinds.optimizer=tuned")
    path = path or "parts.transformer.placement"
    name = path.replace("optimizer.", "optimizer.adamw.")
    point = found.point(compose([*TINY, override], "search"))
    assert as_value(as_text(point[name])) == OmegaConf.select(compose(TINY).cfg, path)
    described = found.describe()["domains"][name]["choices"]
    assert [as_value(as_text(choice)) for choice in described] == values
    for choice, value in zip(described, values, strict=True):
        composed = next_compose(tuple(found.at({**point, name: choice})))
        assert OmegaConf.select(composed.cfg, path) == value
    study = studies.new(storage=RDBStorage("sqlite://"))
    number = studies.begin(study, point, domains_of(found, point))
    assert found.at(study.trial(number).params) == found.at(point), "a known start that is stored"


def test_trials_with_null_and_lists_are_carried_over() -> None:
    domains = [CLIP, MULT]
    study = filled(asked_small(OLD, *domains))
    new = asked_small(OLD, CLIP.replace("1.0]", "1.0,0.5]"), MULT.replace("]]}", "],[1,3]]}"))
    found = migrate.collect(study, new.space, new.mode.points[0], new.settings.caps)
    assert len(found.trials) == len(study.trials) and found.outside == 0
    assert {trial.params["trainer.gradient_clip"] for trial in found.trials} == {None, 1.0}
    before = migrate.collect(study, asked_small(OLD).space, asked_small(OLD).mode.points[0], new.settings.caps)
    kept = [t for t in study.trials if t.params["trainer.gradient_clip"] is None]
    kept = [t for t in kept if t.params["model.channel_mult"] == "[1,2]"]
    assert [t.user_attrs["carried"] for t in before.trials] == [t.user_attrs["run_id"] for t in kept]


def test_an_ablation_over_null_finds_the_baselines_arm() -> None:
    asks = asked_small("search=ablation", "search.scientific=[trainer.gradient_clip]", CLIP, "optimizer.lr=0.003").mode
    assert isinstance(asks, Ablation)
    assert [asks.key(start) for start in asks.arms] == ["trainer.gradient_clip=null", "trainer.gradient_clip=1.0"]
    tuned = asks.tuned([])
    assert tuned is not None and tuned.option == "trainer.gradient_clip=null"


DROPOUT = AT + "dropout="
REFUSED: list[tuple[str, list[str]]] = [
    (DROPOUT + "{type:float,low:0.0,high:inf}", ["search.domains.dropout", "high=inf", "finite"]),
    (DROPOUT + "{type:float,low:-inf,high:0.1}", ["low=-inf", "finite"]),
    (DROPOUT + "{type:float,low:nan,high:0.1}", ["low=nan", "finite"]),
    (DROPOUT + "{type:float,low:0.0,high:1e400}", ["high=inf", "finite"]),
    (DROPOUT + "{type:float,low:false,high:0.1}", ["low=False", "finite"]),
    (DROPOUT + "{type:float,low:0.3,high:0.0}", ["low=0.3", "high=0.0", "low: 0.0, high: 0.3"]),
    (DROPOUT + "{type:float,low:0.0,high:0.3,log:true}", ["low=0.0", "log", "above 0"]),
    (DROPOUT + "{type:float,low:0.1,high:0.3,log:3}", ["log=3", "true and false"]),
    (DROPOUT + "{type:float,low:0.1,high:0.3,log:true,step:0.1}", ["step=0.1", "log"]),
    (DROPOUT + "{type:float,low:0.0,high:0.35,step:0.1}", ["steps of 0.1", "high=0.35", "0.3 or 0.4"]),
    (DROPOUT + "{type:float,low:0.0,high:0.3,step:0}", ["step=0", "above 0"]),
    (DROPOUT + "{type:float,low:0.0,high:0.3,step:1e-300}", ["step=1e-300", "1000000 steps"]),
    (DROPOUT + "{type:[float],low:0.0,high:0.3}", ["search.domains.dropout", "['float']", "categorical"]),
    (AT + "dropout.type={type:int,low:1,high:2}", ["search.domains.dropout", "categorical"]),
    (DROPOUT + "{type:float,low:0.0,high:0.3,choices:[0.0]}", ["choices", "low, high, step, log"]),
    (DROPOUT + "{type:categorical,choices:[0.0,inf]}", ["inf", "finite"]),
    (DROPOUT + "{type:categorical,choices:[0.0,0.0]}", ["0.0", "twice"]),
    (DROPOUT + "{type:categorical,choices:[0.0,{a:1}]}", ["{'a': 1}", "lists"]),
    (DROPOUT + "{type:categorical,choices:0.1}", ["choices=0.1", "choices: [a, b]"]),
    (DROPOUT + "{type:float,low:0.0,high:5.0}", ["dropout=5.0", "0 to 0.99"]),
    (DROPOUT + "{type:categorical,choices:[0.0,null]}", ["dropout=null", "a number"]),
    (AT + "model.width={type:int,low:8,high:31,step:8}", ["steps of 8", "24 or 32"]),
    (AT + "model.width={type:int,low:8.5,high:16}", ["low=8.5", "whole number"]),
    (AT + "model.width={type:float,low:8,high:16}", ["model.width=8.0", "whole number", "type: int"]),
    (AT + "model.width={type:int,low:0,high:16}", ["model.width=0", "1 to 4096"]),
    (AT + "model.channel_mult={type:categorical,choices:[[1,2],2]}", ["model.channel_mult=2", "list"]),
    (AT + "model.channel_mult={type:categorical,choices:[[1,2],[0,2]]}", ["model.channel_mult=[0,2]", "1 to 64"]),
    (AT + "model.num_heads={type:int,low:1,high:4}", ["3", "divisor", "choices: [1,2,4]"]),
    (AT + "trainer.gradient_clip={type:categorical,choices:[null,0.0]}", ["trainer.gradient_clip=0.0", "1e-09"]),
    (AT + "trainer.gradient_clip={type:float,low:0.5,high:1.0}", ["trainer.gradient_clip=null", "[0.5, 1.0]"]),
    (AT + "trainer.precision={type:categorical,choices:[32-true,16-mixed]}", ["16-mixed", "bf16-mixed"]),
    (AT + "data.batch_size={type:int,low:64,high:100000}", ["100000", "1257"]),
    (AT + "placement={type:categorical,choices:[pre,middle]}", ["middle", "pre, post, sandwich"]),
    (AT + "placement={type:float,low:0.0,high:1.0}", ["placement=0.0", "a word"]),
    (AT + "parts.residual.activation={type:categorical,choices:[silu,relu]}", ["activation@parts", "search=parts"]),
    (AT + "store={type:categorical,choices:[a,b]}", ["search.domains.store", "no training depends on it"]),
    (AT + "seed={type:int,low:0,high:3}", ["search.domains.seed", "val/loss itself depends on it"]),
    (AT + "trainer={type:categorical,choices:[cpu,gpu]}", ["search.domains.trainer", "trainer.max_steps"]),
    (AT + "model.limits.width={type:categorical,choices:[[1,2]]}", ["search.domains.model.limits.width"]),
    ("optimizer.space.lr.high=inf", ["optimizer.space.lr", "high=inf"]),
    ("optimizer.space.lr.low=nan", ["optimizer.space.lr", "low=nan", "finite"]),
    ("optimizer.lr=nan", ["optimizer.lr=nan", "0.0003", "take a value within"]),
    ("optimizer.lr=inf", ["optimizer.lr=inf", "0.02", "take a value within"]),
    ("optimizer.lr=-1", ["optimizer.lr=-1", "0.0003", "take a value within"]),
    ("optimizer.limits.eps=[1,0]", ["optimizer.limits.eps=[1,0]", "write [low, high]"]),
    ("optimizer.space.weight_decay={type:float,low:0.0,high:0.35,step:0.1}", ["optimizer.space.weight_decay", "0.4"]),
    (
        "optimizer.space.betas={type:categorical,choices:[[0.9,0.999],[0.9,1.5]]}",
        ["optimizer.space.betas", "[0.9,1.5]", "0.99999"],
    ),
    ("optimizer.space.betsa={type:float,low:0.0,high:1.0}", ["betsa", "'betas'"]),
    ("optimizer.space.lr={type:flot,low:0.0,high:1.0}", ["optimizer.space.lr", "type: float"]),
    ("normalization.space.num_groups.choices=[8,a]", ["normalization.num_groups=a", "whole number"]),
]


@pytest.mark.parametrize(("override", "words"), REFUSED, ids=[override for override, _ in REFUSED])
def test_a_domain_that_cannot_be_searched_is_refused_before_the_first_trial(override: str, words: list[str]) -> None:
    said = refused(override)
    missing = [word for word in words if word not in said]
    assert not missing, f"{missing} not said in: {said}"


def test_a_shape_may_ask_for_another_one_beside_it() -> None:
    """8 heads do not divide the 8 channels of the baseline in two levels; they divide those of a wider network."""
    heads = AT + "model.num_heads={type:categorical,choices:[2,32]}"
    with pytest.raises(UserError, match="32"):
        built(heads)
    built(heads, AT + "model.width={type:int,low:8,high:32,step:8}")


AGAIN = AT + "model.num_heads={type:categorical,choices:WAY}"
WAYS = [  # what is refused, where its line says what to write, and what is typed then
    (AT + "optimizer.betas={type:categorical,choices:[[0.9,0.999],[0.9,0.95]]}", r"write (optimizer\S+)", "WAY"),
    (AT + "optimizer.lr={type:float,low:0.001,high:0.01,log:true}", r"write (optimizer\S+)", "WAY"),
    (AT + "activation={type:categorical,choices:[silu,relu]}", r"write (search\.kinds\S+)", "WAY"),
    ("+optimizer.space.lr.choices=[0.001,0.002]", r"typed whole: (\S+)", "WAY"),
    (AT + "trainer.gradient_clip={type:float,low:0.5,high:1.0}", r"start within with (\S+)", "IT WAY"),
    (AT + "dropout={type:float,low:0.1,high:0.3}", r"start within with (\S+)", "IT WAY"),
    ("optimizer.lr=5", r"on purpose add (\S+)", "IT WAY"),
    (
        "activation@parts.residual.activation=swish parts.residual.activation.beta=50.0",
        r"on purpose add (\S+)",
        "IT WAY",
    ),
    (DROPOUT + "{type:float,low:0.3,high:0.0}", r"write (\{.*\})", DROPOUT + "WAY"),
    (DROPOUT + "3", r"write (\{.*?\})", AT + "trainer.gradient_clip=WAY trainer.gradient_clip=0.5"),
    (
        AT + "model.width={type:int,low:8,high:31,step:8}",
        r"write high: (\d+)",
        AT + "model.width={type:int,low:8,high:WAY,step:8}",
    ),
    (AT + "model.num_heads={type:int,low:1,high:4}", r"write choices: (\S+)", AGAIN),
    (
        AT + "model.width={type:int,low:8,high:16,step:0.5}",
        r"write step: (\d+)",
        AT + "model.width={type:int,low:8,high:16,step:WAY}",
    ),
]


@pytest.mark.parametrize(("override", "pattern", "then"), WAYS, ids=[override for override, *_ in WAYS])
def test_what_a_line_says_to_write_can_be_typed(override: str, pattern: str, then: str) -> None:
    with pytest.raises(UserError) as refusal:
        built(*override.split())
    shown = re.search(pattern, str(refusal.value))
    assert shown, str(refusal.value)
    way = shown[1].replace(" ", "")
    built(*then.replace("WAY", way).replace("IT", override).split())


SCIENTIFIC = ["search=ablation", "search.scientific=[dropout]"]


@pytest.mark.parametrize(
    ("overrides", "pattern", "then"),
    [
        (["search.kinds.activation=[relu,gelu]"], r"baseline with (\S+)", ["IT", "WAY"]),
        ([*SCIENTIFIC, DROPOUT + "{type:float,low:0.0,high:0.3}"], r"write (\S+)", ["IT", "WAY"]),
        (["search=ablation", "search.scientific=[]"], r"such as (\S+)", ["search=ablation", "WAY"]),
        ([*SCIENTIFIC], r"legal: (\w+)", ["search=ablation", "search.scientific=[WAY]"]),
        (["search.mode=ablation"], r"write (\S+)", ["WAY"]),
        (["search.mode=pareto"], r"write (\S+)", ["WAY", "model.width=16"]),
    ],
)
def test_what_a_line_about_choices_says_can_be_typed(overrides: list[str], pattern: str, then: list[str]) -> None:
    with pytest.raises(UserError) as refusal:
        asked_small(*overrides)
    shown = re.search(pattern, str(refusal.value))
    assert shown, str(refusal.value)
    typed = [t for text in then for t in (overrides if text == "IT" else [text.replace("WAY", shown[1])])]
    assert asked_small(*typed).total > 0
