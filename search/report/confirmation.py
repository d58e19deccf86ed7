"""What the user reads of a confirmation: the arms, who is compared with whom, a sentence a finalist, what to take."""

import math
from statistics import mean, median

from rich.text import Text

from search.analysis.confirmation import Comparison, Confirmation, Finalist
from search.analysis.sequential_test import BETTER, OPEN, WORSE
from search.console.tables import Fitting
from search.report.pareto_front import NAMES

STYLE = {BETTER: "green", WORSE: "red", OPEN: ""}
RARE = 0.1  # how often the bad seed comes that a sentence speaks of


def decimals(found: Confirmation) -> int:
    """Digits behind the point that show two figures of the narrowest interval; 4 to 8."""
    halves = [(one.asked.interval[1] - one.asked.interval[0]) / 2 for one in found.rivals if one.asked.interval]
    sizes = [size for size in halves if size > 0]
    return min(8, max(4, 1 - math.floor(math.log10(min(sizes))))) if sizes else 4


def tables(found: Confirmation) -> list[Fitting]:
    """The losses of each arm on the fresh seeds, and each comparison: both within 80 columns."""
    return [_arms(found, decimals(found)), _comparisons(found, decimals(found))]


def _arms(found: Confirmation, d: int) -> Fitting:
    shown = Fitting(f"On fresh seeds, {found.settings.test_samples} test triples (test/loss)", spare=[5, 6, 3])
    shown.add_column("trial", justify="right", no_wrap=True)
    shown.add_column("differs from the baseline", overflow="fold", min_width=16)
    for name in ("seeds", "failed", "mean", "median", "worst"):
        shown.add_column(name, justify="right", no_wrap=True)
    best = found.best
    for arm in found.arms:
        number = "" if arm.trial is None else str(arm.trial)
        values = [f"{of(arm.finite):.{d}f}" if arm.finite else "-" for of in (mean, median, max)]
        failed = str(len(arm.failures) or "")
        style = "bold" if arm is best else ""
        shown.add_row(number, Text(arm.differs), str(len(arm.values)), failed, *values, style=style)
    return shown


def _comparisons(found: Confirmation, d: int) -> Fitting:
    both = found.reference is not None
    title = f"Differences{'' if both else ' to your config as it is'}, on the same seeds (below 0 is better)"
    shown = Fitting(title, spare=[1 + both])
    shown.add_column("trial", justify="right", no_wrap=True)
    if both:
        shown.add_column("beside", overflow="fold", min_width=11)
    shown.add_column("means of both", justify="right", no_wrap=True)
    shown.add_column(f"difference, {100 * found.settings.level:g} % interval", justify="right", min_width=9 + 2 * d)
    shown.add_column("verdict", min_width=10)
    for one in found.rivals:
        for beside, pair in _pairs(one, found):
            means = "-" if pair.mine is None else f"{pair.mine:.{d}f} {pair.theirs:.{d}f}"
            number = str(one.trial) if pair is one.asked else ""
            verdict = Text(pair.verdict, STYLE[pair.verdict])
            shown.add_row(number, *[beside][: int(both)], means, _difference(pair, d), verdict)
    return shown


def _pairs(one: Finalist, found: Confirmation) -> list[tuple[str, Comparison]]:
    """What a finalist is compared with, first what the search asks."""
    untuned = ("your config", one.untuned)
    return [untuned] if one.tuned is None else [(f"{found.option}, tuned", one.tuned), untuned]


def _difference(pair: Comparison, d: int) -> str:
    shown = "-" if pair.difference is None else f"{pair.difference:+.{d}f}"
    return shown if pair.interval is None else f"{shown} ({pair.interval[0]:+.{d}f}, {pair.interval[1]:+.{d}f})"


def sentences(found: Confirmation) -> list[str]:
    """What is shown and what is not, a sentence an arm, then what to take and what else should be known."""
    if not found.finalists:
        return []
    lines = [f"{_name(one, found)}: {_said(one, found)}." for one in found.rivals]
    lines.append(f"Best: {take(found)}")
    if found.baseline_best:
        lines.append("The baseline itself had the best value of the search; these are the next best.")
    if found.baseline.failures:
        kinds = ", ".join(sorted(set(found.baseline.failures.values())))
        lines.append(
            f"The baseline failed on {len(found.baseline.failures)} of {_seeds(len(found.baseline.values))} ({kinds}); "
            "the means are of the seeds on which both finished."
        )
    return [*lines, *_scope(found), *_ensembles(found)]


def answer(found: Confirmation) -> str:
    """Whether a finalist is shown to be better than what the search asks about, and by how much: one sentence."""
    beside = f"{found.option} at its own best of the same budget" if found.option else "your config as it is"
    shown = [one for one in found.finalists if one.asked.verdict == BETTER]
    if shown:
        top = min(shown, key=lambda one: one.asked.difference or 0.0)
        return f"{top.name[:1].upper()}{top.name[1:]} is shown to be {_compared(top.asked, beside, found)}."
    many = len(found.finalists)
    tried = "the best one was" if many == 1 else f"the best {many} were"
    seeds = max((len(arm.values) for arm in found.arms), default=0)
    return f"No config is shown to be better than {beside}: {tried} trained again beside it on {seeds} fresh seeds."


def in_short(one: Finalist, found: Confirmation) -> str:
    """What a leaderboard says of a finalist: its difference to what the search asks about, with the interval."""
    return f"{_difference(one.asked, decimals(found))} {one.asked.verdict}"


def take(found: Confirmation) -> str:
    """Which arm is the best and what it is worth: its mean over the fresh seeds with its interval, one line."""
    best, d = found.best, decimals(found)
    if best is None:
        return "none; no training on a fresh seed finished."
    worth = f"test/loss {best.mean:.{d}f} in the mean of {_seeds(len(best.finite))}"
    if best.interval is not None and math.isfinite(best.interval[1]):
        low, high = best.interval
        worth += (
            f" ({100 * found.settings.level:g} % interval {low:.{d}f} to {high:.{d}f}, not corrected for the choice)"
        )
    if best is found.baseline:
        return f"your config as it is, {worth}; nothing is shown to be better than it."
    if isinstance(best, Finalist) and best.untuned.verdict == BETTER:
        tuned = best.tuned is not None and best.tuned.verdict != BETTER
        return (
            f"{best.name}, {worth}{f'; not shown to be better than {found.option} at its own best' if tuned else ''}."
        )
    return f"{best.name}, {worth}; your config as it is did not finish on any of the seeds."


def _name(one: Finalist, found: Confirmation) -> str:
    return f"{found.option} at its own best, {one.name}" if one is found.reference else one.name


def _said(one: Finalist, found: Confirmation) -> str:
    as_it_is = "your config as it is, untuned"
    if found.option and found.reference is None:
        as_it_is = f"your config as it is, which is {found.option}'s own best of the same budget"
    parts = [_compared(one.untuned, as_it_is, found)]
    if one.tuned is not None:
        parts.insert(0, _compared(one.tuned, f"{found.option} at its own best of the same budget", found))
    if found.cost is not None and one.cost and found.baseline.cost:
        parts.append(f"at {one.cost / found.baseline.cost:.0%} of the baseline's {NAMES[found.cost][0]}")
    if one.failed:
        parts.append(f"failed on {len(one.failed)} of {_seeds(len(one.values))} ({', '.join(sorted(set(one.failed)))})")
    if one.asked.searched is None:
        return "; ".join([*parts, "the search has no value to compare with"])
    return "; ".join([*parts, f"the search had promised {_size(one.asked.searched, decimals(found))}"])


def _compared(pair: Comparison, other: str, found: Confirmation) -> str:
    """One comparison in words, without a full stop."""
    said = _differs(pair, other, found)
    if not any(pair.diverged):
        return said
    mine, theirs = pair.diverged
    return f"{said}, diverged on {mine} of {_seeds(pair.both)}, that one on {theirs} (exact test, p {pair.p:.2g})"


def _differs(pair: Comparison, other: str, found: Confirmation) -> str:
    d = decimals(found)
    if pair.difference is None or pair.interval is None:
        return f"{_than(pair.verdict)} {other} (both ended on {_seeds(pair.pairs)})"
    low, high = pair.interval
    share = f"{100 * found.settings.level:g} % interval"
    if pair.verdict == OPEN or pair.verdict != pair.shows:  # else by the divergences, which are said after it
        span = f"{_size(high, d)} to {_size(low, d)}"
        mean = f"{_size(pair.difference, d)} in the mean"
        return f"{_than(pair.verdict)} {other}: {mean} ({share} {span}, {_seeds(pair.pairs)})"
    near, far = sorted((abs(low), abs(high)))
    size = f"{pair.verdict} by {abs(pair.difference):.{d}f} than {other}"
    return f"{size} ({share} {near:.{d}f} to {far:.{d}f}, {_seeds(pair.pairs)})"


def _than(verdict: str) -> str:
    return f"{verdict} to" if verdict == OPEN else f"{verdict} than"


def _scope(found: Confirmation) -> list[str]:
    """What the intervals hold, and what they could have shown."""
    shown = [one.asked for one in found.finalists if one.asked.interval]
    if not shown:
        return []
    many, s = len(found.finalists), found.settings
    joint = f"for all {many} finalists and " if many > 1 else ""
    beside = ", each kind of comparison for itself" if found.reference is not None else ""
    least = min(pair.pairs for pair in shown)
    lines = [
        f"The intervals (Student's t over seeds, and what other test images would change) hold together at "
        f"{100 * s.level:g} %, {joint}at all looks on the way{beside}. They speak of the typical seed: of bad ones "
        f"that come once in ten, {least} seeds hold none in {(1 - RARE) ** least:.0%} of the cases."
    ]
    if found.spread and any(pair.verdict == OPEN for pair in shown):
        images = max(pair.images for pair in shown) / found.spread
        one, two = (f"{found.rules[0].power(k, images):.0%}" for k in (1, 2))
        d = decimals(found)
        lines.append(
            f"Little is seen by {s.seeds} seeds: a difference of {found.spread:.{d}f} (one standard deviation of a "
            f"seed's difference) is shown in {one} of the cases, one of {2 * found.spread:.{d}f} in {two}."
        )
    return lines


def _ensembles(found: Confirmation) -> list[str]:
    d = decimals(found)
    return [
        f"Averaged prediction of {one.of}: {one.value:.{d}f}; its {len(one.runs)} members alone "
        f"{one.members_mean:.{d}f} in the mean, {one.members_best:.{d}f} at best (one value, without an "
        f"interval, on the images that chose the best; it costs {len(one.runs)} times as much)."
        for one in found.ensembles
    ]


def _seeds(count: int) -> str:
    return f"{count} seed" + "s" * (count != 1)


def _size(difference: float, d: int) -> str:
    """A difference in words: 0.012 better."""
    return f"{abs(difference):.{d}f} {'better' if difference < 0 else 'worse'}"
