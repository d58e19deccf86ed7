"""A changed space: which old trials are legal in it, and as what."""

from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from benchmarks.filling import Random
from denoise.config.compose import raw_compose
from search.space.search_space import Space
from search.storages.trials import Trials
from search.study import migrate, spec
from search.study.loop import said
from search.study.settings import Caps
from search.study.spec import Search
from search.trial import equal_time, provenance
from search.trial.config_hash import config_sha256
from tests import studies

pytestmark = pytest.mark.filterwarnings("ignore")
TINY = ["model.width=8", "model.embedding_dim=16", "model.num_heads=2", "trainer.max_steps=8", "sampler=random"]
KINDS = [
    *(f"search.kinds.{kind}=fixed" for kind in ("weight_normalization", "initializer", "feed_forward", "lr_schedule")),
    *("search.kinds.optimizer=[adamw,sgd]", "search.kinds.normalization=[group_norm,none]", "search.enqueue=[]"),
]


def asked(*overrides: str) -> Search:
    return spec.prepare([*TINY, *KINDS, *overrides])


def domains_of(space: Space, point: dict[str, Any]) -> dict[str, Any]:
    """The domains of a point's parameters."""
    domains: dict[str, Any] = {}
    space.suggest(lambda name, domain: domains.setdefault(name, domain) and point[name])
    return domains


def filled(search: Search, trials: int = 8) -> Trials:
    """A study of the search with finished trials, the baseline first."""
    study, generator = studies.new(), np.random.default_rng(0)
    study.set_user_attr("space", search.space.describe())
    for number in range(trials):
        drawn = Random(generator)
        overrides = search.space.suggest(drawn)
        if not number:
            point = search.mode.points[0]
            drawn.params, overrides = point, search.space.at(point)
            drawn.distributions = domains_of(search.space, point)
        attrs = {"overrides": overrides, "run_id": f"run{number}", "cost/parameters": 1000.0 * number}
        attrs["config_sha256"] = config_sha256(raw_compose(tuple(overrides)))
        study.insert(number, drawn.params, drawn.distributions, attrs, {})
        study.report(number, 2, 1.0 / (number + 1))
        done = TrialState.COMPLETE if number % 3 else TrialState.PRUNED
        study.end(number, done, [1.0 / (number + 1)] if number % 3 else None)
    return study


OLD = "search.kinds.activation=[silu,relu]"


def collected(*overrides: str) -> tuple[migrate.Migration, Trials, Search]:
    study, new = filled(asked(OLD)), asked(*overrides)
    return migrate.collect(study, new.space, new.mode.points[0], new.settings.caps), study, new


def test_an_option_that_is_added_leaves_every_old_trial_legal() -> None:
    found, study, new = collected("search.kinds.activation=[silu,relu,gelu]")
    assert found.outside == 0 and len(found.trials) == len(study.trials)
    for old, kept in zip(study.trials, found.trials, strict=True):
        assert kept.params == old.params and kept.state == old.state and kept.values == old.values
        assert kept.intermediate_values == old.intermediate_values
        assert kept.user_attrs["carried"] == old.user_attrs["run_id"]
        assert kept.distributions["activation"].choices == ("silu", "relu", "gelu")  # type: ignore[attr-defined]
        assert kept.user_attrs["overrides"] == new.space.at(kept.params)
    optuna.create_study().add_trials(found.trials)


def test_an_option_that_is_taken_away_takes_its_trials_along() -> None:
    found, study, _ = collected("search.kinds.activation=[silu]")
    assert found.outside == sum(trial.params["activation"] == "relu" for trial in study.trials) > 0
    assert all(trial.params["activation"] == "silu" for trial in found.trials)


def test_a_domain_that_moved_keeps_what_lies_inside() -> None:
    found, study, _ = collected(OLD, "optimizer.space.lr.low=0.0019", "optimizer.space.lr.high=0.0021")
    name = "optimizer.adamw.lr"
    inside = [trial for trial in study.trials if 0.0019 <= trial.params.get(name, 0.002) <= 0.0021]
    assert len(found.trials) == len(inside) < len(study.trials)


def test_a_kind_that_is_no_longer_searched_keeps_the_trials_that_had_what_is_fixed_now() -> None:
    found, study, _ = collected("search.kinds.activation=fixed")
    assert [t.user_attrs["carried"] for t in found.trials] == [
        t.user_attrs["run_id"] for t in study.trials if t.params["activation"] == "silu"
    ]
    assert all("activation" not in trial.params for trial in found.trials)


def test_a_value_that_is_searched_anew_is_what_the_old_trials_had() -> None:
    found, _, _ = collected(OLD, "+search.domains.dropout={type:float,low:0.0,high:0.3}")
    assert found.outside == 0 and {trial.params["dropout"] for trial in found.trials} == {0.0}
    beside, _, _ = collected(OLD, "dropout=0.1", "+search.domains.dropout={type:float,low:0.1,high:0.3}")
    assert beside.trials == [], "the old trials had no dropout, and 0 is outside"


def test_what_is_over_a_new_cap_is_left_out() -> None:
    study, new = filled(asked(OLD)), asked(OLD)
    found = migrate.collect(study, new.space, new.mode.points[0], Caps(parameters=2500.0))
    assert len(found.trials) == 3


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["search.kinds.activation=[silu,relu,gelu]"], ["activation +gelu"]),
        (["search.kinds.activation=[silu]"], ["activation -relu"]),
        ([OLD, "optimizer.space.lr.high=0.5"], ["the domain of optimizer.adamw.lr moved"]),
        ([OLD, "+search.domains.dropout={type:float,low:0.0,high:0.3}"], ["+dropout"]),
    ],
)
def test_the_change_is_said(overrides: list[str], said: list[str]) -> None:
    old: dict[str, Any] = asked(OLD).space.describe()
    change = migrate.difference(old, asked(*overrides).space.describe())
    assert all(part in change for part in said), change


def test_only_what_asks_the_same_is_of_one_family() -> None:
    base = asked(OLD)
    assert asked("search.kinds.activation=[silu,gelu]").family == base.family
    assert asked(OLD, "search.kinds.activation=[silu,gelu]").name != base.name
    for other in (["seed=1"], ["trainer.val_every=4"], ["activation=relu"], ["search=pareto", "model.width=16"]):
        assert asked(OLD, *other).family != base.family, other


GONE = {  # a domain that was there and is not any more
    "trainer.max_steps": "{type:int,low:4,high:32,step:4}",
    "trainer.val_every": "{type:categorical,choices:[40,4,8]}",
    "data.batch_size": "{type:categorical,choices:[64,32]}",
    "dropout": "{type:float,low:0.0,high:0.3}",
    "trainer.gradient_clip": "{type:categorical,choices:[null,1.0]}",
    "model.feed_forward_ratio": "{type:categorical,choices:[2.0,4.0]}",
}


@pytest.mark.parametrize("path", GONE)
def test_of_a_domain_that_is_gone_only_trials_with_the_value_of_now_are_carried_over(path: str) -> None:
    """What had a longer training would rank first without being better."""
    kinds = ["search.kinds.activation=fixed", "search.kinds.optimizer=tuned", "search.kinds.normalization=fixed"]
    old, new = asked(*kinds, f"+search.domains.{path}={GONE[path]}"), asked(*kinds)
    study = filled(old, 6)
    now = old.mode.points[0][path]
    found = migrate.collect(study, new.space, new.mode.points[0], new.settings.caps)
    same = [trial for trial in study.trials if trial.params[path] == now]
    assert [trial.user_attrs["carried"] for trial in found.trials] == [trial.user_attrs["run_id"] for trial in same]
    assert 0 < len(same) < 6 and found.outside == 6 - len(same)
    shown = "null" if now is None else now
    assert found.fixed == [f"{path}={shown}"]
    line = said(found, migrate.difference(old.space.describe(), new.space.describe()), provenance.code())
    assert f"-{path}" in line and f"{found.outside} outside the new space not ({path}={shown} now)" in line
    again = migrate.collect(study, old.space, old.mode.points[0], old.settings.caps)
    assert len(again.trials) == 6 and again.fixed == [], "searched still, each keeps its own value"


def test_equal_time_keeps_the_steps_that_each_trial_had() -> None:
    assert equal_time.as_it_was(["a=1", "trainer.max_steps=8"], ["a=1", "trainer.max_steps=6"]) == [
        "a=1",
        "trainer.max_steps=6",
    ]
    longer = equal_time.as_it_was(["a=1", "trainer.max_steps=8"], ["a=1", "trainer.max_steps=6"], {"trainer.max_steps"})
    assert longer == ["a=1", "trainer.max_steps=8"], "what was searched is not put back"
