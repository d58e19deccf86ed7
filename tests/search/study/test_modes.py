"""What a search asks: arms of equal budgets and paired draws, costs that are only compared with cheaper ones."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState

from denoise.config import catalog
from denoise.errors import UserError
from search.pruners import decision
from search.samplers import make
from search.storages.trials import Trials
from search.study import objective, spec
from search.study.modes import Ablation, Pareto
from search.study.spec import Search
from tests import studies

pytestmark = pytest.mark.filterwarnings("ignore")
TINY = ["model.width=8", "model.embedding_dim=16", "model.num_heads=2", "trainer.max_steps=8", "trainer.val_every=2"]


def asked(*overrides: str) -> Search:
    return spec.prepare([*TINY, "sampler=random", *overrides])


def opened(search: Search) -> Trials:
    """A study of the search, in memory."""
    return studies.new(objectives=len(search.mode.objectives))


def ablation(*overrides: str) -> tuple[Search, Ablation]:
    search = asked("search=ablation", *overrides)
    assert isinstance(search.mode, Ablation)
    return search, search.mode


ACTIVATIONS = ("search.kinds.activation=[relu,silu,swish,gelu]", "search.per_arm=4", "search.min_per_arm=2")


def play(search: Search, study: Trials, values: Any, limit: int = 1000) -> list[dict[str, Any]]:
    """Run a search's loop with trainings that only have a value."""
    session: Any = SimpleNamespace(search=search, study=study)
    session.sampler = make.sampler(search.composed.cfg, len(search.mode.objectives))
    played: list[dict[str, Any]] = []
    while search.mode.missing(trials := study.get_trials(deepcopy=False)) > 0 and len(played) < limit:
        start = search.mode.next_start(trials)
        assert start is not None
        objective.begin(session, trials, start)
        trial = study.trial(len(trials))
        played.append({**trial.params, **start.attrs})
        study.end(trial.number, TrialState.COMPLETE, [values(trial)])
    return played


def quality(trial: FrozenTrial) -> float:
    order = {"gelu": 0.1, "silu": 0.4, "relu": 0.3, "swish": 0.2}
    return order[trial.params["activation"]] + abs(math.log10(trial.params["optimizer.adamw.lr"]) + 2.5) / 100


def test_every_arm_has_its_guaranteed_trials_and_the_baseline_comes_first() -> None:
    search, mode = ablation(*ACTIVATIONS)
    played = play(search, opened(search), quality)
    assert played[0]["activation"] == "silu" and played[0]["round"] == 0
    first_two = [one["activation"] for one in played if one["round"] < 2]
    assert sorted(first_two) == sorted(["relu", "silu", "swish", "gelu"] * 2)
    assert len(played) == mode.total == 4 + 4 + 2 + 2


def test_the_first_trial_of_an_arm_is_the_baseline_with_that_option() -> None:
    search, _ = ablation(*ACTIVATIONS)
    played = play(search, opened(search), quality)
    assert {one["optimizer.adamw.lr"] for one in played if one["round"] == 0} == {0.002}


def test_an_optimizer_begins_at_its_own_rate_and_draws_from_its_own_domain() -> None:
    kinds = "search.kinds.optimizer=[adamw,sgd,lion]"
    search, _ = ablation("search.scientific=[optimizer]", "search.nuisance=[optimizer.lr]", kinds)
    played = play(search, opened(search), lambda trial: 1.0)
    for option, domains in search.space.domains["optimizer"].items():
        assert list(domains) == ["lr"]
        rates = [one[f"optimizer.{option}.lr"] for one in played if one["optimizer"] == option]
        assert rates[0] == search.space.defaults("optimizer", option)[f"optimizer.{option}.lr"] and len(rates) == 3
        assert all(domains["lr"].low <= rate <= domains["lr"].high for rate in rates)  # type: ignore[attr-defined]


def test_the_draws_of_a_round_are_the_same_for_every_arm() -> None:
    search, _ = ablation(*ACTIVATIONS)
    played = play(search, opened(search), quality)
    for number in (1, 2, 3):
        assert len({one["optimizer.adamw.lr"] for one in played if one["round"] == number}) == 1
    assert len({one["optimizer.adamw.lr"] for one in played}) == 4


def test_only_the_better_arms_and_the_baseline_go_on() -> None:
    search, _ = ablation(*ACTIVATIONS)
    played = play(search, opened(search), quality)
    for number in (2, 3):
        assert [one["activation"] for one in played if one["round"] == number] == ["silu", "gelu"]


@pytest.mark.parametrize("kept", range(1, 9))
def test_a_search_that_was_stopped_anywhere_goes_on_to_the_same_trials(kept: int) -> None:
    search, _ = ablation(*ACTIVATIONS)
    whole = play(search, opened(search), quality)
    study = opened(search)
    first = play(search, study, quality, limit=kept)
    again, _ = ablation(*ACTIVATIONS)
    assert first + play(again, study, quality) == whole


def test_a_trial_is_compared_with_its_own_arm_alone() -> None:
    search, mode = ablation(*ACTIVATIONS)
    study = opened(search)
    play(search, study, quality, limit=6)
    trial = study.trials[5]
    seen = mode.rivals(study.trials, trial)
    assert {other.params["activation"] for other in seen} == {trial.params["activation"]} and len(seen) == 2


def test_two_choices_are_asked_about_in_every_combination() -> None:
    kinds = ("search.kinds.activation=[silu,relu]", "search.kinds.normalization=[group_norm,none,rms_norm]")
    search, mode = ablation("search.scientific=[activation,normalization]", *kinds, "search.per_arm=1")
    played = play(search, opened(search), lambda trial: 1.0)
    assert len({(one["activation"], one["normalization"]) for one in played}) == 6 == len(played)
    assert mode.choices() == ["activation", "normalization"]


def test_a_value_that_is_no_option_can_be_asked_about() -> None:
    domain = "+search.domains.placement={type:categorical,choices:[pre,post,sandwich]}"
    search, _ = ablation("search.scientific=[placement]", domain, "search.per_arm=1")
    assert [one["placement"] for one in play(search, opened(search), lambda t: 1.0)] == ["pre", "post", "sandwich"]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["search.scientific=[]"], "nothing is asked"),
        (["search.scientific=[activaton]"], "activation"),
        (["search.scientific=[activation.beta]"], "is no choice"),
        (["search.nuisance=[optimizer.momentun]"], "optimizer.momentum"),
        (["search.scientific=[dropout]", "+search.domains.dropout={type:float,low:0.0,high:0.3}"], "no list of values"),
        (["search.kinds.activation=[relu,gelu]"], "silu is not among"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        asked("search=ablation", *overrides)


def pareto() -> tuple[Search, Trials]:
    search = asked("search=pareto", "search.cost=parameters", "model.width=16", "pruner.min_resource=2")
    assert isinstance(search.mode, Pareto)
    return search, opened(search)


def reported(search: Search, study: Trials, cost: float, value: float) -> tuple[int, bool]:
    """A trial that costs so much and is so good at its first rung: its number, and whether it is stopped there."""
    number = studies.begin(study, **{"cost/parameters": cost})
    study.report(number, 2, value)
    by = catalog.call(search.composed.cfg.pruner, kind="pruner")
    return number, decision.should_stop(study, by, number, search.mode.rivals)


def test_a_trial_is_stopped_only_behind_trials_that_cost_no_more() -> None:
    search, study = pareto()
    for cost, value in ((100.0, 0.5), (110.0, 0.4), (120.0, 0.3), (130.0, 0.2)):
        trial, _ = reported(search, study, cost, value)
        study.tell(trial, [value, cost])
    _, dear_and_bad = reported(search, study, 200.0, 0.9)
    _, cheap_and_bad = reported(search, study, 50.0, 0.9)
    _, dear_and_good = reported(search, study, 200.0, 0.1)
    assert dear_and_bad and not cheap_and_bad and not dear_and_good


def test_the_sampler_of_two_objectives_goes_on_after_stopped_trials() -> None:
    search = asked("search=pareto", "search.cost=parameters", "model.width=16", "sampler=tpe", "pruner.min_resource=2")
    study = opened(search)
    for number in range(14):
        trial, stopped = reported(search, study, 100.0 + number, 1.0 / (1 + number % 5))
        study.tell(trial, state=TrialState.PRUNED) if stopped or number % 3 == 2 else study.tell(trial, [0.5, 100.0])
    assert len(study.trials) == 14 and any(trial.state == TrialState.PRUNED for trial in study.trials)


def test_the_weights_of_the_whole_front_are_kept() -> None:
    search, study = pareto()
    for cost, value in ((100.0, 0.3), (90.0, 0.4), (80.0, 0.5), (95.0, 0.6), (85.0, 0.5)):
        study.tell(reported(search, study, cost, value)[0], [value, cost])
    assert {trial.number for trial in search.mode.leaders(study.trials, 1)} == {0, 1, 2}


def test_values_of_both_objectives_are_told() -> None:
    search, _ = pareto()
    assert search.mode.values({"val/loss": 0.3, "cost/parameters": 7.0}) == [0.3, 7.0]
    with pytest.raises(UserError, match="step_seconds"):
        asked("search=pareto", "search.cost=step_second", "model.width=16")
