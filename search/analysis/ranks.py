"""Who is behind whom: the order of the options, and the ranks that those share which cannot be told apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search.analysis.best_of_n import Chance, OptionTrials
from search.analysis.confirmation import Comparison
from search.analysis.sequential_test import BETTER, WORSE
from search.tracking.record import Record


@dataclass(frozen=True)
class Ranks:
    """Who is behind whom: by fresh seeds where an option was confirmed beside the baseline's, else by one."""

    arms: Mapping[str, OptionTrials]
    chance: Chance
    base: str
    confirmed: Mapping[str, Comparison]

    def measured(self) -> list[str]:
        """The options with a value, the best first; what was confirmed better stands before the baseline's."""

        def place(option: str) -> tuple[float, int, str]:
            value, said = self.arms[option].values[0], self.confirmed.get(option)
            beside = self.arms.get(self.base)
            if said is None or beside is None or not beside.values or said.verdict not in (BETTER, WORSE):
                return value, 1, option
            limit = beside.values[0]
            return (min(value, limit), 0, option) if said.verdict == BETTER else (max(value, limit), 2, option)

        return sorted((option for option, arm in self.arms.items() if arm.values), key=place)

    def behind(self, first: str, other: str) -> float | None:
        """The least by which `other` is worse than `first`, 0 where it diverges more often; None: not shown to be."""
        said = self.confirmed.get(first) if other == self.base else None
        if other in self.confirmed and first == self.base:
            said = self.confirmed[other]
        if said is None:
            return self.chance.behind(self.arms[first], self.arms[other])
        if said.verdict != (BETTER if other == self.base else WORSE):
            return None
        return min(map(abs, said.interval)) if said.interval and said.shows == said.verdict else 0.0

    def apart(self, rank: Sequence[str], other: str) -> bool:
        """Whether `other` is told apart from a rank: from its first, or on fresh seeds from one of it."""
        confirmed = [one for one in rank if {one, other} & {self.base} and {one, other} & self.confirmed.keys()]
        return any(self.behind(one, other) is not None for one in (rank[0], *confirmed))


def ranks(groups: Mapping[str, Sequence[Record]], order: Ranks) -> dict[str, int]:
    """Option -> rank, in the order of the table: a new rank begins where one is told apart from the last one.

    Options whose trials were all stopped early share the rank after the measured ones; those that only failed
    come last.
    """
    found: dict[str, int] = {}
    rank = 0
    here: list[str] = []
    for option in order.measured():
        if not here or order.apart(here, option):
            rank, here = rank + 1, []
        here.append(option)
        found[option] = rank
    for stopped in (True, False):
        rest = [o for o in groups if o not in found and any(r.outcome == "pruned" for r in groups[o]) == stopped]
        rank += bool(rest)
        found |= {option: rank for option in sorted(rest)}
    return found
