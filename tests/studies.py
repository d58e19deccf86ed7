"""Small studies: made, drawn for and told as a search does it, without trainings."""

from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from denoise.config.compose import compose
from search.samplers import make
from search.samplers.seeded import SeededSampler
from search.storages.trials import Trials

Objective = Callable[[Any], Any]


def new(name: str = "s", objectives: int = 1, storage: BaseStorage | None = None) -> Trials:
    """A study, in memory where no storage is given; the one that is there where there is one."""
    storage = storage or InMemoryStorage()
    directions = ["minimize"] * objectives
    optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True)
    return Trials(name, storage)


def sampler(name: str, *more: str, seed: int = 0) -> SeededSampler:
    """The sampler as a search's config builds it."""
    return make.sampler(compose([f"sampler={name}", f"seed={seed}", *more], "search").cfg)


def ask(study: Trials, drawing: SeededSampler, suggest: Objective, fixed: Mapping[str, Any] | None = None) -> Any:
    """Draw and insert the next trial: what `suggest` made of its choices, and its number."""
    trials, made = study.get_trials(deepcopy=False), []

    def choices(choose: Any) -> list[str]:
        made.append(suggest(choose))
        return []

    drawn = drawing.draw(choices, trials, len(trials), fixed=fixed)
    study.insert(len(trials), drawn.params, drawn.domains, {}, drawn.noted)
    return made[0], len(trials)


def search(study: Trials, drawing: SeededSampler, objective: Objective, number: int) -> list[FrozenTrial]:
    """So many trials more, each told what `objective` gives for its choices: a value, or how it ended."""
    for _ in range(number):
        value, at = ask(study, drawing, objective)
        if isinstance(value, TrialState):
            study.end(at, value)
        else:
            study.end(at, TrialState.COMPLETE, [value])
    return study.trials


def begin(study: Trials, params: Mapping[str, Any] | None = None, domains: Any = None, **attrs: Any) -> int:
    """A trial that runs, with these parameters: its number."""
    number = len(study.trials)
    study.insert(number, params or {}, domains or {}, attrs, {})
    return number
