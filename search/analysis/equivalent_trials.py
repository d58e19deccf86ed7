"""Trials whose settings differ and do the same: found by their weights, told and counted once.

What is read is what each run has noted of its weights, so it does not matter which trial ended first, in which process
or after how many kills.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from search.tracking.record import Record
from search.tracking.tags import Tag

SAID = 5  # twins that are told one by one


@dataclass(frozen=True)
class Twin:
    """A trial that has the weights of another one with another config, to the last bit, up to `step`."""

    trial: Record
    of: Record
    step: int

    def said(self) -> str:
        """One line."""
        of, step = self.of.number, self.step
        return (
            f"trial {self.trial.number} has the same weights as trial {of} after {step} steps: its overrides do not act"
        )


def find(records: Sequence[Record]) -> dict[str, Twin]:
    """The trials, by run, that have another one's weights at all steps at which both were noted.

    The other one is that which was trained furthest, and of those the first.
    """
    found: dict[str, Twin] = {}
    known: dict[tuple[int, str], list[Record]] = {}
    for record in sorted(records, key=lambda r: (r.outcome != "complete", -r.step, r.number or 0)):
        noted = record.weights_at
        for step in sorted(noted, reverse=True):
            others = [other for other in known.get((step, noted[step]), []) if _same(record, other, step)]
            if others:
                found[record.run_id] = Twin(record, others[0], step)
                break
        else:
            for step, name in noted.items():
                known.setdefault((step, name), []).append(record)
    return found


def lines(records: Sequence[Record]) -> list[str]:
    """What is to be said of twins: a line each of the first ones, and how many more there are."""
    found = sorted(find(records).values(), key=lambda twin: twin.trial.number or 0)
    rest = len(found) - SAID
    more = [f"{rest} more trials have the same weights as another one; the leaderboard marks them"] if rest > 0 else []
    return [*(twin.said() for twin in found[:SAID]), *more]


def counted_once(records: Sequence[Record], option: Callable[[Record], str]) -> tuple[list[Record], dict[str, str]]:
    """The records without twins, and by option what is to be said of those that are left out.

    A trial counts for the option of the one whose weights it has. An option that has no other trials is none of its
    own: it is named beside the other one.
    """
    same = find(records)
    kept = [record for record in records if record.run_id not in same]
    ranked = {option(record) for record in kept}
    pairs: dict[tuple[str, str], list[str]] = {}
    for twin in sorted(same.values(), key=lambda twin: twin.trial.number or 0):
        mine, its = option(twin.trial), option(twin.of)
        if mine != its:
            pairs.setdefault((mine, its), []).append(str(twin.trial.number))
    said: dict[str, list[str]] = {}
    for (mine, its), trials in pairs.items():
        which = f"trial{'s' * (len(trials) > 1)} {', '.join(trials[:SAID] + ['...'] * (len(trials) > SAID))}"
        if mine in ranked:
            said.setdefault(mine, []).append(f"{which} with {its}'s weights")
        else:
            said.setdefault(its, []).append(f"{mine} is the same ({which})")
    return kept, {name: ", ".join(each) for name, each in said.items()}


def _same(record: Record, other: Record, step: int) -> bool:
    """Whether two that are the same at a step are of two configs, and differ at no later step that both have."""
    mine, its = record.weights_at, other.weights_at
    again = record.tags.get(Tag.CONFIG_SHA256, record.run_id) == other.tags.get(Tag.CONFIG_SHA256, other.run_id)
    return not again and all(mine[at] == its[at] for at in mine.keys() & its.keys() if at > step)
