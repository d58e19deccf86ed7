"""Which trials are trained again, and beside whom."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from denoise.config.compose import compose
from search.analysis.confirmation import Arm, Confirmation, Finalist, Settings
from search.space.option import difference
from search.tracking.record import Record
from search.tracking.tags import Tag
from search.trial.config_hash import config_sha256


@dataclass(frozen=True)
class Tuned:
    """The baseline's option in a search that tunes each option: its name, and its own best trial of the same budget."""

    option: str
    best: Record | None


def start(
    settings: Settings,
    records: Sequence[Record],
    baseline: Sequence[str],
    tuned: Tuned | None = None,
    cost: str | None = None,
) -> Confirmation:
    """Choose the finalists: the first complete trials with distinct configs, never the baseline's or `tuned`'s.

    A trial with another's value to the last bit is the same function under another name, such as gelu_sigma with
    sigma=1 and gelu: it is not confirmed beside it. `cost`: the metric that the search weighs.
    """
    own = _key(config_sha256(compose(list(baseline))), baseline)
    complete = [r for r in records if r.outcome == "complete" and r.value is not None and math.isfinite(r.value)]
    keys = {r.run_id: _key(r.tags.get(Tag.CONFIG_SHA256, ""), r.overrides) for r in complete}
    base = next((r for r in complete if keys[r.run_id] == own or r.overrides == list(baseline)), None)
    arm = Arm("", None, "baseline", list(baseline), None)
    configs, values = {own}, set[float | None]()
    if base is not None:
        arm = Arm(base.run_id, base.number, "baseline", list(baseline), base.value, base.metrics.get(cost or ""))
        values.add(base.value)

    def take(one: Record) -> Finalist | None:
        if one is base or keys[one.run_id] in configs or one.value in values:
            return None
        configs.add(keys[one.run_id])
        values.add(one.value)
        differs = difference(one.overrides, baseline)
        return Finalist(one.run_id, one.number, differs, one.overrides, one.value, one.metrics.get(cost or ""))

    reference = take(tuned.best) if tuned is not None and tuned.best in complete else None
    chosen: list[Finalist] = []
    for one in complete:
        if len(chosen) < settings.finalists and (found := take(one)) is not None:
            chosen.append(found)
    best = min((r.value for r in complete if r.value is not None), default=None)
    leads = base is not None and base.value == best
    return Confirmation(settings, arm, chosen, reference, tuned.option if tuned and tuned.best else "", cost, leads)


def _key(digest: str, overrides: Sequence[str]) -> str:
    return digest or json.dumps(list(overrides))
