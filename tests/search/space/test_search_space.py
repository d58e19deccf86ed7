"""The space of a search: what is drawn lies in its domain, composes, and is conditional on the option."""

from pathlib import Path

import optuna
import pytest
import sqlalchemy
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from benchmarks.filling import asked
from denoise.config import catalog
from denoise.config.compose import Composed, compose, parse, raw_compose
from denoise.errors import UserError
from search.space import search_space
from search.space.search_space import Space
from search.storages import database
from search.study.loop import prepare
from search.trial.config_hash import config_sha256

COMMANDS = {
    "plain": (),
    "own values": ("optimizer.eps=1e-7", "activation=leaky_relu", "model.width=8"),
    "another baseline": ("optimizer=sgd", "optimizer.lr=0.01", "normalization=none"),
    "further domains": (
        "+search.domains.dropout={type:float,low:0.0,high:0.3}",
        "+search.domains.model.width={type:int,low:8,high:32,step:8}",
        "+search.domains.placement={type:categorical,choices:[pre,post,sandwich]}",
    ),
    "narrow": ("search.kinds.activation=[silu,swish]", "~search.kinds.optimizer", "optimizer=lion"),
    "moved domain": ("optimizer.space.lr.high=0.5", "optimizer.space.lr.low=0.0001"),
}


def read(*overrides: str) -> tuple[Composed, Space]:
    composed = compose(overrides, "search")
    return composed, search_space.build(composed, overrides)


SEARCHED = [kind for kind in catalog.KINDS if kind != "denoiser"]  # where no one says what is


@pytest.fixture(scope="module", params=COMMANDS)
def searched(request: pytest.FixtureRequest) -> tuple[Composed, Space]:
    return read(*COMMANDS[request.param])


@pytest.fixture(scope="module")
def plain() -> tuple[Composed, Space]:
    return read()


def ask(found: Space, seed: int) -> tuple[optuna.Trial, list[str]]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    trial = study.ask()
    return trial, found.suggest(asked(trial))


def chosen(overrides: list[str]) -> dict[str, str]:
    return dict(text.partition("=")[::2] for text in overrides)


def parameters(overrides: list[str], kind: str) -> set[str]:
    return {name.partition(".")[2] for name in chosen(overrides) if name.startswith(f"{kind}.")}


pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
many = settings(max_examples=6, deadline=None, phases=[Phase.explicit, Phase.generate])  # a composition costs 0.1 s


@many
@given(seed=st.integers(0, 2**32 - 1))
def test_a_trials_overrides_compose_to_what_was_drawn(searched: tuple[Composed, Space], seed: int) -> None:
    _, found = searched
    trial, overrides = ask(found, seed)
    made = raw_compose(tuple(overrides))
    for kind in found.options:
        assert made.choices[kind] == trial.params[kind]
    for name, value in trial.params.items():
        if name in found.options:
            continue
        path = name if name in found.free else ".".join(part for i, part in enumerate(name.split(".")) if i != 1)
        assert OmegaConf.select(made.cfg, path) == value, f"{name}={value} was drawn, {path} is something else"


@many
@given(seed=st.integers(0, 2**32 - 1))
def test_every_drawn_value_lies_in_its_declared_domain(plain: tuple[Composed, Space], seed: int) -> None:
    """The domains are read from the files here, and not by the code under test."""
    trial, overrides = ask(plain[1], seed)
    for kind in SEARCHED:
        option = trial.params[kind]
        assert option in catalog.options(kind)
        declared = catalog.entry(kind, option).space
        drawn = {name.split(".", 2)[2]: v for name, v in trial.params.items() if name.startswith(f"{kind}.{option}.")}
        assert set(drawn) == set(declared), f"{kind}={option} draws its own parameters and no others"
        for name, domain in declared.items():
            if domain["type"] == "categorical":
                assert drawn[name] in domain["choices"]
            else:
                assert domain["low"] <= drawn[name] <= domain["high"]
    compose(overrides)  # with the checks that typed overrides go through: no UserError


def test_a_search_leaves_no_option_out_but_the_controls(plain: tuple[Composed, Space]) -> None:
    for kind in SEARCHED:
        controls = {name for name in catalog.options(kind) if catalog.entry(kind, name).control}
        needing = {name for name in catalog.options(kind) if catalog.entry(kind, name).needs}
        assert set(plain[1].options[kind]) == set(catalog.options(kind)) - controls - needing
        assert not needing & set(read("search.controls=true")[1].options[kind])
    assert "zeros" not in plain[1].options["initializer"]
    assert "zeros" in read("search.controls=true")[1].options["initializer"]
    assert "zeros" in read("search.kinds.initializer=[torch_default,zeros]")[1].options["initializer"]


def test_an_option_that_needs_a_value_is_drawn_where_a_person_has_chosen_it() -> None:
    for kind, option in [(k, o) for k in SEARCHED for o in catalog.options(k) if catalog.entry(k, o).needs]:
        value = f"{kind}.{catalog.entry(kind, option).needs[0]}=mine"
        _, found = read(f"{kind}={option}", value)
        assert set(catalog.options(kind)) > set(found.options[kind]) >= {option}
        drawn = [ask(found, seed)[1] for seed in range(60)]
        assert {value in overrides for overrides in drawn} == {True, False}
        assert all((value in overrides) == (chosen(overrides)[kind] == option) for overrides in drawn)


def test_domains_are_conditional_on_the_option(plain: tuple[Composed, Space]) -> None:
    seen: dict[str, set[str]] = {}
    lr: dict[str, list[float]] = {}
    for seed in range(80):
        _, overrides = ask(plain[1], seed)
        option = chosen(overrides)["optimizer"]
        seen[option] = parameters(overrides, "optimizer")
        lr.setdefault(option, []).append(float(chosen(overrides)["optimizer.lr"]))
    assert seen["sgd"] == {"lr"}
    assert seen["adamw"] == {"lr", "weight_decay"}
    assert seen["momentum"] == {"lr", "momentum"}
    assert max(lr["lion"]) <= 5e-3 < max(lr["sgd"]), "each optimizer draws from its own learning rates"


def test_parameters_of_two_options_are_two_parameters_for_the_sampler(plain: tuple[Composed, Space]) -> None:
    names = {name for seed in range(80) for name in ask(plain[1], seed)[0].params}
    assert {"optimizer.sgd.lr", "optimizer.adamw.lr"} <= names and "optimizer.lr" not in names


def test_own_overrides_go_with_their_option_only() -> None:
    _, found = read("optimizer.eps=1e-7", "model.width=16", "optimizer=adamw", "search.kinds.optimizer=[adamw,lion]")
    for seed in range(12):
        _, overrides = ask(found, seed)
        own = chosen(overrides)
        assert ("optimizer.eps" in own) == (own["optimizer"] == "adamw")
        assert own["model.width"] == "16", "what is not searched is in every trial"
        if own["optimizer"] == "adamw":
            assert raw_compose(tuple(overrides)).cfg.optimizer.eps == 1e-7
        else:
            raw_compose(tuple(overrides))


def test_no_trial_carries_what_no_training_depends_on() -> None:
    _, found = read("store=elsewhere", "search.n_trials=3", "tracking.uri=null", "sampler=random", "dropout=0.1")
    _, overrides = ask(found, 0)
    heads = {name.split(".")[0] for name in chosen(overrides)}
    assert "dropout" in heads and not heads & {"store", "search", "tracking", "sampler", "pruner"}


@pytest.mark.parametrize("given_overrides", COMMANDS.values(), ids=COMMANDS)
def test_the_baseline_is_a_point_of_the_space_and_the_config_itself(given_overrides: tuple[str, ...]) -> None:
    composed, found = read(*given_overrides)
    overrides = found.at(found.point(composed))
    trains = [
        text for text in given_overrides if parse(text).key_or_group.split(".")[0] not in search_space.NOT_THE_TRIALS
    ]
    again = raw_compose(tuple(overrides))
    alone = compose(trains)
    without_space = [_without_space(c) for c in (again, alone)]
    assert without_space[0] == without_space[1]
    if not any(".space." in text for text in given_overrides):
        assert config_sha256(again) == config_sha256(alone)


def _without_space(composed: Composed) -> object:
    content = OmegaConf.to_container(composed.cfg, resolve=True)
    assert isinstance(content, dict)
    for kind in catalog.KINDS:
        content[kind].pop("space", None)
    return {k: v for k, v in content.items() if k not in search_space.NOT_THE_TRIALS}


def test_a_trial_drawn_from_a_moved_domain_trains_by_itself() -> None:
    """Its overrides must pass the checks of `make train`, or nobody can type the best command."""
    _, found = read("optimizer.space.lr.high=0.5", "search.kinds.optimizer=[adamw]")
    for seed in range(40):
        _, overrides = ask(found, seed)
        if float(chosen(overrides)["optimizer.lr"]) > 0.02:
            compose(overrides)
            return
    raise AssertionError("no draw above the old bound in 40")


def test_one_command_has_one_hash_and_another_domain_another() -> None:
    first = read("optimizer.eps=1e-7")[1].sha256()
    assert read("optimizer.eps=1e-7")[1].sha256() == first
    others = [
        read("optimizer.eps=1e-6"),
        read("optimizer.eps=1e-7", "optimizer.space.lr.high=0.03"),
        read("optimizer.eps=1e-7", "search.kinds.activation=[silu,relu]"),
        read("optimizer.eps=1e-7", "+search.domains.dropout={type:float,low:0.0,high:0.3}"),
        read("optimizer.eps=1e-7", "search.controls=true"),
    ]
    hashes = [found.sha256() for _, found in others]
    assert len({first, *hashes}) == 1 + len(hashes)


def test_what_is_no_question_of_the_search_does_not_rename_it() -> None:
    name = prepare(["model.width=8", "model.num_heads=2"]).name
    assert prepare(["model.width=8", "model.num_heads=2", "search.n_trials=3", "store=elsewhere"]).name == name
    assert prepare(["model.width=8", "model.num_heads=2", "seed=1"]).name != name
    assert prepare(["model.width=8", "model.num_heads=2", "search.name=mine"]).name.startswith("mine-")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("search.kinds.optimizer=[sgd,lion]",), ("search.kinds.optimizer", "adamw", "sgd", "lion")),
        (("+search.domains.dropout={type:float,low:0.1,high:0.3}",), ("dropout", "0.0")),
        (("+search.domains.dropuot={type:float,low:0.0,high:0.3}",), ("dropuot",)),
        (("+search.domains.optimizer.lr={type:float,low:0.0,high:0.3}",), ("optimizer.lr", "optimizer.space")),
        (("+search.domains.store={type:categorical,choices:[a,b]}",), ("store",)),
    ],
)
def test_a_space_that_cannot_be_is_refused(overrides: tuple[str, ...], words: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as refused:
        composed, found = read(*overrides)
        found.point(composed)
    for word in words:
        assert word in str(refused.value)


def test_an_option_of_ones_own_joins_the_space(tmp_path_factory: pytest.TempPathFactory) -> None:
    mine = tmp_path_factory.mktemp("conf")
    (mine / "activation").mkdir()
    (mine / "activation" / "mine.yaml").write_text(
        "# max(0, x) + a min(0, x)\n# nobody\n_target_: torch.nn.PReLU\ninit: 0.2\n"
        "space:\n  init: {type: float, low: 0.1, high: 0.3}\n"
    )
    catalog.add_folder(mine)
    _, found = read("search.kinds.activation=[silu,mine]")
    drawn = [chosen(ask(found, seed)[1]) for seed in range(12)]
    assert {own["activation"] for own in drawn} == {"silu", "mine"}
    assert all(0.1 <= float(own["activation.init"]) <= 0.3 for own in drawn if own["activation"] == "mine")


def test_postgresql_has_the_driver_that_is_installed() -> None:
    engine = sqlalchemy.create_engine(str(database.address("postgresql://me:word@host:5432/base", Path("runs"))))
    assert engine.dialect.driver == "psycopg2" and engine.url.database == "base"
    for other in ("sqlite:///x.db", "postgresql+psycopg2://host/base"):
        assert database.address(other, Path("runs")) == other
    assert database.address(None, Path("/runs")).endswith("/runs/optuna.db"), "the store's own"
