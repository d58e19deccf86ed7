"""Carrying the trials of an older study over into one of a changed space."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig
from optuna.distributions import BaseDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from denoise.config import trust
from denoise.config.compose import next_compose, raw_compose
from denoise.config.legal import exists, select
from denoise.config.limits import as_text
from search.space.domains import inside
from search.space.search_space import Space
from search.storages.attributes import OfStudy, OfTrial
from search.storages.trials import OVER, Trials
from search.study.modes import further
from search.study.settings import Caps
from search.tracking.record import check_overrides
from search.trial import equal_time
from search.trial.config_hash import config_sha256


@dataclass(frozen=True)
class Migration:
    """What was migrated: from which study, the trials as they are to be added, how many lie outside.

    fixed: of what was searched and is not any more, the values now, where trials that had others are outside for it.
    """

    study: str
    trials: list[FrozenTrial]
    outside: int
    fixed: list[str] = field(default_factory=list)


def latest(study: Trials, family: str) -> Trials | None:
    """The latest other study of the same question, asked in another space."""
    found = [other for other in study.others() if other.user_attrs.get(OfStudy.FAMILY) == family and other.n_trials]
    if not found:
        return None
    return study.other(max(found, key=lambda other: other.user_attrs.get(OfStudy.OPENED, 0.0)).study_name)


def collect(old: Study, space: Space, baseline: Mapping[str, Any], caps: Caps) -> Migration:
    """The finished trials of `old` that are legal in `space` under `caps`, as trials of it; `baseline`: its params.

    A changed domain must hold the old value. A parameter that is new has the value that it had before it was searched,
    one that is no longer searched must have had the value that it has now: the whole config must be the same one, and
    so must the user's own code.
    """
    finished = old.get_trials(deepcopy=False, states=OVER)
    cheap = [t for t in finished if not caps.exceeded(t.user_attrs) and t.user_attrs.get(OfTrial.OUTCOME) != "cap"]
    legal = [_legal(trial, space, baseline) for trial in cheap]
    kept = [trial for trial in legal if trial is not None]
    lost = [trial for trial, found in zip(cheap, legal, strict=True) if found is None]
    return Migration(old.study_name, kept, len(finished) - len(kept), _fixed(lost, space, baseline))


def _fixed(lost: Sequence[FrozenTrial], space: Space, baseline: Mapping[str, Any]) -> list[str]:
    """What the lost trials were searched by and the space holds no more, with the value that the config has now."""
    gone = [n for n in dict.fromkeys(name for trial in lost for name in trial.params) if n not in space.free]
    if not gone:
        return []
    now = next_compose(tuple(space.at(baseline))).cfg
    values = {name: select(now, name) for name in gone if exists(now, name)}
    texts = {name: as_text(value) for name, value in values.items() if not isinstance(value, DictConfig)}
    return [f"{n}={text}" for n, text in texts.items() if any(as_text(t.params.get(n, text)) != text for t in lost)]


def _legal(trial: FrozenTrial, space: Space, baseline: Mapping[str, Any]) -> FrozenTrial | None:
    starts = dict(baseline)
    for place, names in space.options.items():
        option = trial.params.get(place, baseline[place])
        if option in names and baseline[place] != option:
            starts |= space.defaults(place, option)
    params: dict[str, Any] = {}
    domains: dict[str, BaseDistribution] = {}

    def known(name: str, domain: BaseDistribution) -> Any:
        if name not in trial.params and name not in starts:
            raise ValueError(f"{name} is not known")
        params[name] = inside(name, trial.params.get(name, starts.get(name)), domain)
        domains[name] = domain
        return params[name]

    try:
        drawn = space.suggest(known)
        overrides = [*drawn, *further(trial)]
        before = trial.user_attrs.get(OfTrial.OVERRIDES, [])
        overrides = equal_time.as_it_was(overrides, before, {*trial.params, *space.free})
        check_overrides([text for text in overrides if text not in drawn], f"trial {trial.number} of another search")
    except ValueError:
        return None
    if params != trial.params or trust.own():
        before = trial.user_attrs.get(OfTrial.CONFIG_SHA256)
        if before is None or config_sha256(raw_compose(tuple(overrides))) != before:
            return None
    attributes = {
        **trial.user_attrs,
        OfTrial.OVERRIDES: overrides,
        OfTrial.MIGRATED: trial.user_attrs.get(OfTrial.RUN_ID, ""),
    }
    for name in (OfTrial.WORKER, OfTrial.BEAT):
        attributes.pop(name, None)
    return create_trial(
        state=trial.state,
        values=trial.values if trial.state != TrialState.FAIL else None,
        params=params,
        distributions=domains,
        user_attrs=attributes,
        system_attrs=dict(trial.system_attrs),
        intermediate_values=dict(trial.intermediate_values),
    )


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Say what changed from one described space to another, in a few words."""
    new = json.loads(json.dumps(new))  # as the old one was stored
    said = []
    for place in dict.fromkeys([*old.get("options", {}), *new["options"]]):
        before, after = old.get("options", {}).get(place, []), new["options"].get(place, [])
        changes = [f"+{name}" for name in after if name not in before]
        changes += [f"-{name}" for name in before if name not in after]
        if changes:
            said.append(f"{place} {' '.join(changes[:4])}{' ...' if len(changes) > 4 else ''}")
    before, after = old.get("domains", {}), new["domains"]
    both = [name for name in after if name in before and before[name] != after[name]]
    said += [f"the domain of {name} moved" for name in both[:3]]
    options = {f"{place}.{name}" for place, names in new["options"].items() for name in names}
    single = [n for n in (*after, *before) if (n in after) != (n in before) and n.rpartition(".")[0] not in options]
    said += [f"{'+' if name in after else '-'}{name}" for name in dict.fromkeys(single)][:3]
    return "; ".join(said) or "its settings or your own code"
