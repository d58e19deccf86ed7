"""Records ranked: complete trials by their value, each config once."""

from collections.abc import Sequence

from search.tracking.record import OUTCOMES, Record
from search.tracking.tags import Tag


def rank(records: Sequence[Record]) -> list[Record]:
    """Ranks a leaderboard: complete trials by objective, then those pruned latest, then the failed ones."""

    def place(record: Record) -> tuple[int, int, float, int]:
        value = record.value if record.value is not None and record.value == record.value else float("inf")
        depth = -record.step if record.outcome == "pruned" else 0
        return OUTCOMES.index(record.outcome), depth, value, record.number or 0

    return sorted(records, key=place)


def distinct(records: Sequence[Record]) -> list[Record]:
    """Without trials that have another's config and so its result: the first in this order stays."""
    kept: dict[str, Record] = {}
    for record in records:
        kept.setdefault(
            record.tags.get(Tag.CONFIG_SHA256) or record.tags.get(Tag.DUPLICATE_OF) or record.run_id, record
        )
    return list(kept.values())


def best(records: Sequence[Record]) -> Record | None:
    """The complete trial with the lowest objective, None where there is none."""
    ranked = [record for record in rank(records) if record.outcome == "complete" and record.value == record.value]
    ranked = [record for record in ranked if record.value is not None]
    return ranked[0] if ranked else None
