"""Try the nine claims that the texts make about components.

    python -m experiments.claims [claims=1,2,3,4,5,6,7,8,9]
    python -m experiments.claims page

Each claim's figures go to experiments/results/claims.jsonl and its plot to docs/claims/ as soon as it is done; then
docs/claims.md is made anew between its markers. The claims that are not named stay as they are. `page` only writes
docs/claims.md and its plots anew. One thread, some minutes.
"""

import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import torch

from benchmarks import arguments, results
from denoise.errors import UserError
from experiments import tables
from experiments.claims import batches, depth, dying, ensemble, page, shapes, steps, symmetry
from experiments.claims.finding import Finding
from search.trial import provenance

CLAIMS: dict[str, Callable[[], Finding]] = {
    "1": depth.claim_1,
    "2": depth.claim_2,
    "3": symmetry.claim_3,
    "4": dying.claim_4,
    "5": shapes.claim_5,
    "6": steps.claim_6,
    "7": steps.claim_7,
    "8": batches.claim_8,
    "9": ensemble.claim_9,
}


def show(number: str, found: Finding, seconds: float) -> None:
    """Print a claim's figures and tables."""
    print(f"\nclaim {number}: {found.verdict}  ({seconds:.0f} s)")
    for check in found.checks:
        answer = "yes" if check.holds else "NO"
        print(f"  {answer:3}  {check.figure}: {page.shown(check.value)}; asked for: {check.expected}")
    for table in found.tables:
        print(f"\n  {table.said}")
        for line in page.table(table.head, table.rows):
            print(f"  {line}")
    sys.stdout.flush()


def run(numbers: Sequence[str]) -> None:
    """Try the claims one by one; what is found is written after each."""
    torch.set_num_threads(1)
    commit = results.commit()  # before the page changes
    for number in numbers:
        began = time.perf_counter()
        found = CLAIMS[number]()
        seconds = time.perf_counter() - began
        show(number, found, seconds)
        record = {
            "command": f"{page.COMMAND} claims={number}",
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit,
            "machine": provenance.describe(),
            "seconds": round(seconds, 1),
            **found.as_json(),
        }
        claims = page.read() | {number: record}
        others = [one for one in tables.read(page.LINES)[1] if one["claim"] != number]
        drawn = [*others, {"claim": number, **found.plot.as_json()}]
        tables.write(page.LINES, {}, sorted(drawn, key=lambda one: one["claim"]))
        tables.write(page.RESULTS, {}, tables.named(dict(sorted(claims.items())), "claim"))
        page.refresh()


def main(given: Sequence[str] | None = None) -> int:
    """Run the command. Exit status: 0 done, 2 a refusal, 130 interrupted."""
    words = list(sys.argv[1:] if given is None else given)
    try:
        if words == ["page"]:
            page.refresh()
            return 0
        chosen = arguments.read(words, {"claims": tuple(CLAIMS)}, {"claims": arguments.some_of(*CLAIMS)})["claims"]
        run(chosen)
    except UserError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; claims=... goes on with those that are left", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
