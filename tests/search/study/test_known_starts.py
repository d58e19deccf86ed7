"""Known starts: each is trained as it was typed, or refused, or named as left out; none is lost."""

import re
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from denoise.config.compose import compose, next_compose
from denoise.errors import UserError
from denoise.training import train
from search.study import migrate
from search.study.modes import Start
from search.study.spec import Search
from search.trial.config_hash import config_sha256
from tests import quick, studies
from tests.search.study.test_migrate import domains_of, filled

pytestmark = pytest.mark.filterwarnings("ignore")
KINDS = ["search.kinds.activation=[silu,gelu]", "search.kinds.optimizer=[adamw,lion]", "search.n_trials=4"]
STARTS = (
    'search.enqueue=[["optimizer=lion","optimizer.betas=[0.9,0.95]"],["optimizer.betas=[0.9,0.95]"],["dropout=0.1"]]'
)
TYPED = [[], ["optimizer=lion", "optimizer.betas=[0.9,0.95]"], ["optimizer.betas=[0.9,0.95]"], ["dropout=0.1"]]


def asked(*overrides: str) -> Search:
    return quick.asked(*quick.SMALL, *KINDS, *overrides)


def wanted(start: list[str], *more: str) -> str:
    """The config that a start is by Hydra alone, without the search."""
    own = [text for text in [*quick.SMALL, *more] if not text.startswith("search.")]
    return config_sha256(compose([*own, *start]))


@pytest.mark.faults
def test_a_start_is_trained_as_it_was_typed_after_a_kill_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = [*KINDS, STARTS]
    whole, _ = quick.run(tmp_path / "whole", overrides, monkeypatch)
    names = [config_sha256(next_compose((*trial[0],))) for trial in whole]
    assert names[:4] == [wanted(start, "trainer.num_threads=1") for start in TYPED] and len(whole) == 4

    fit, calls = quick.formula, list[int]()

    def killed(*given: Any) -> train.Result:
        calls.append(1)
        if len(calls) in (2,):
            raise quick.Killed
        return fit(*given)

    monkeypatch.setattr(quick, "formula", killed)
    for life in range(2):
        quick.a_new_process(monkeypatch, life)
        try:
            torn, _ = quick.run(tmp_path / "torn", overrides, monkeypatch)
        except quick.Killed:
            continue
    assert torn == whole


def test_the_sampler_learns_of_a_start_what_the_space_holds() -> None:
    mode = asked(STARTS).mode
    assert mode.further == [[], ["optimizer.betas=[0.9,0.95]"], ["optimizer.betas=[0.9,0.95]"], ["dropout=0.1"]]
    assert mode.points[2] == mode.points[3] == mode.points[0]
    assert mode.points[1]["optimizer"] == "lion" and "betas" not in " ".join(mode.points[1])
    assert asked(STARTS).name != asked('search.enqueue=[["optimizer=lion"]]').name
    assert asked('search.enqueue=[["optimizer=lion"]]').mode.further == [[], []]


def test_a_start_that_is_carried_over_keeps_what_was_typed() -> None:
    old, new = asked(STARTS), asked(STARTS, "search.kinds.activation=[silu,gelu,relu]")
    study = filled(asked(), 1)
    for point, further in list(zip(old.mode.points, old.mode.further, strict=True))[1:]:
        overrides = [*old.space.at(point), *further]
        attrs: dict[str, Any] = {"overrides": overrides} | ({"further": further} if further else {})
        attrs["config_sha256"] = config_sha256(next_compose(tuple(overrides)))
        number = studies.begin(study, point, domains_of(old.space, point), **attrs)
        study.end(number, TrialState.COMPLETE, [1.0])
    found = migrate.collect(study, new.space, new.mode.points[0], new.settings.caps)
    assert len(found.trials) == 4
    for trial, start in zip(found.trials, TYPED, strict=True):
        assert config_sha256(next_compose(tuple(trial.user_attrs["overrides"]))) == wanted(start)
    other = optuna.create_study()
    other.add_trials(found.trials)
    assert new.mode.next_start(other.trials) == Start(), "no start is put there a second time"


def test_a_start_keeps_the_baselines_own_values() -> None:
    own = ["optimizer.eps=1e-7", "model.width=16"]
    found = asked(*own, 'search.enqueue=[["optimizer=adamw","activation=gelu"],["optimizer=lion"]]')
    texts = [found.space.at(point) for point in found.mode.points]
    assert ["optimizer.eps=1e-7" in each for each in texts] == [True, True, False]
    assert all("model.width=16" in each for each in texts)


def test_a_start_that_is_no_other_is_named() -> None:
    found = asked('search.enqueue=[["optimizer=adamw"],["optimizer=lion"],["optimizer=lion"],["optimizer=sgd"]]')
    assert [note for note in found.notes if "known start" in note] == [
        "note: known start optimizer=adamw: is the baseline itself",
        "note: known start optimizer=lion: is the same as start 1",
    ]
    assert found.left_out == ["optimizer=sgd"]


@pytest.mark.parametrize(
    ("starts", "words"),
    [
        ('[["optimizer=lion","seed=5"]]', ["optimizer=lion seed=5", "the same seed=0"]),
        ('[["trainer.val_samples=16"]]', ["trainer.val_samples=512"]),
        ('[["trainer.max_steps=4"]]', ["trainer.max_steps=8"]),
        ('[["trainer.num_threads=2"]]', ["trainer.num_threads=1"]),
        ('[["data.sigma_data=0.5"]]', ["the same", "data"]),
        ('[["store=elsewhere"]]', ["no training depends on store"]),
        ('[["search.n_trials=3"]]', ["no training depends on search"]),
        ('[["optimizer.bets=[0.9,0.95]"]]', ["optimizer.bets", "'optimizer.betas'"]),
        ("[[3]]", ["search.enqueue", "no list of overrides"]),
        ("[[]]", ["search.enqueue", "no list of overrides"]),
        ('[["optimizer=lion","optimizer=sgd"]]', ["optimizer=lion optimizer=sgd", "optimizer stands twice"]),
        ('[["optimizer.lr=0.01","++optimizer.lr=0.01"]]', ["optimizer.lr stands twice"]),
        ('[["allow=[os.]","activation._target_=os.system"]]', ["allow=[os.]", "to the search itself"]),
        ('[["activation._target_=os.system"]]', ["activation._target_=os.system", "os.system is not trusted"]),
        ('[["data.batch_size=1000000"]]', ["data.batch_size=1000000", "1257"]),
        ('[["trainer.precision=16-mixed"]]', ["trainer.precision=16-mixed", "bf16-mixed"]),
        ("[optimizer=lion]", ["search.enqueue"]),
        ("3", ["search.enqueue=3", "list"]),
    ],
)
def test_a_start_that_cannot_be_compared_is_refused(starts: str, words: list[str]) -> None:
    with pytest.raises(UserError) as refused:
        asked(f"search.enqueue={starts}")
    assert all(word in str(refused.value) for word in words), str(refused.value)


def test_an_ablation_has_no_known_starts() -> None:
    with pytest.raises(UserError, match="search.enqueue: an ablation"):
        asked("search=ablation", "search.scientific=[activation]", STARTS)


def test_what_the_refusal_of_a_start_says_can_be_typed() -> None:
    with pytest.raises(UserError) as refused:
        asked("search.enqueue=[3]")
    shown = re.search(r"write (search\.enqueue=\S+)", str(refused.value))
    assert shown
    kinds = ["search.kinds.optimizer=[adamw,muon]"]
    assert len(asked(*kinds, shown[1]).mode.points) == 3
