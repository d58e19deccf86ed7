"""A verdict in words and as a table."""

from collections.abc import Sequence

from rich.text import Text

from search.analysis.verdict import TOP, Row, Verdict
from search.console.tables import Fitting

NAMED = 3  # options that a sentence names before it counts the others
WIDE = 0.2  # failures are worth a sentence from this part of an option's trials on


def table(verdict: Verdict) -> Fitting:
    """Rank, option, best with its interval, median of the top trials, trials, good learning rates, cost, note."""
    title = Text(f"{verdict.choice}: options that cannot be told apart share a rank")
    rates = any(row.lr_range for row in verdict.rows)
    after = 6 + rates  # the first column behind the learning rates
    shown = Fitting(title, spare=[after, after + 1, 4, *range(6, after), 5, after + 2])
    for name in ("rank", "option", "best", "95 % interval", f"median of {TOP}", "trials"):
        shown.add_column(name, justify="left" if name == "option" else "right", no_wrap=True)
    if rates:
        shown.add_column("good lr (decades)", no_wrap=True)
    for name in ("samples/s", "parameters"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("note", overflow="fold", min_width=14)
    rank = None
    for row in verdict.rows:
        cells: list[str | Text] = [
            "" if row.rank == rank else str(row.rank),
            Text(row.option),
            _number(row.best),
            "-" if row.low is None or row.high is None else f"{row.low:.4f} to {row.high:.4f}",
            _number(row.median_top),
            f"{row.complete}/{row.trials}",
        ]
        if rates:
            cells.append(_rates(row))
        cells.append("-" if row.samples_per_second is None else f"{row.samples_per_second:.0f}")
        cells.append("-" if row.parameters is None else f"{row.parameters:,}")
        shown.add_row(*cells, Text(row.note), style="" if row.best is not None else "dim")
        rank = row.rank
    shown.caption = "trials: complete/all. " + ("lr marked | touches the edge of its domain." if rates else "")
    return shown


def sentences(verdict: Verdict) -> list[str]:
    """What the rows show and what they do not, in plain words, the answer first."""
    measured = [row for row in verdict.rows if row.best is not None]
    if not measured:
        return [f"{verdict.choice}: no trial completed, so nothing is known."]
    asks = f"search=ablation search.scientific=[{verdict.choice}] asks about it"
    if len(verdict.rows) == 1 and verdict.left_out:
        return [f"{verdict.choice}: no trial differs from the baseline in it alone, so nothing is said of it; {asks}."]
    said = [*_fresh(verdict), _answer(verdict, measured)]
    said += _luck(verdict, measured)
    if verdict.left_out:
        said.append(
            f"{verdict.left_out} trials that differ from the baseline in other choices too are left out: what they "
            f"came to is not {verdict.choice}'s alone; {asks}."
        )
    if not verdict.independent:
        said.append(
            "The sampler drew where earlier trials were good, so an option's trials are not independent and its "
            "interval is too narrow where tuning got stuck; sampler=random has honest ones."
        )
    said += _budgets(verdict)
    return said + _learning_rates(verdict, measured)


def compared(verdict: Verdict) -> bool:
    """Whether two options or more have a value, or fresh seeds say something of one."""
    return sum(row.best is not None for row in verdict.rows) > 1 or any(row.confirmed for row in verdict.rows)


def answers(verdict: Verdict) -> list[str]:
    """Of the sentences those that say which option is better."""
    measured = [row for row in verdict.rows if row.best is not None]
    return [*_fresh(verdict), *([_answer(verdict, measured)] if len(measured) > 1 else [])]


def names(options: Sequence[str], last: str = "and") -> str:
    """silu, gelu, mish and 4 more."""
    if len(options) > NAMED + 1:
        return f"{', '.join(options[:NAMED])} {last} {len(options) - NAMED} more"
    return f" {last} ".join([", ".join(options[:-1]), options[-1]] if len(options) > 1 else options)


def _fresh(verdict: Verdict) -> list[str]:
    """What the confirmation says of single options: it goes before what one seed each says."""
    return [
        f"{verdict.choice}: {row.option} beside the baseline's on fresh seeds: {row.confirmed}."
        for row in verdict.rows
        if row.confirmed
    ]


def _answer(verdict: Verdict, measured: list[Row]) -> str:
    first, choice = measured[0], verdict.choice
    if len(verdict.rows) == 1:
        return f"{choice}: every trial was of {first.option} or the same as one of it, so there is nothing to compare."
    if len(measured) == 1:
        return f"{choice}: of what is compared only {first.option} completed, so nothing is said of others."
    worse = [row for row in measured if row.behind is not None]
    level = [row.option for row in measured if row.rank == 1]
    by = names([f"{row.option} ({f'by {row.behind:.2g} or more' if row.behind else 'diverges'})" for row in worse])
    joint = "95 % for all together" + (
        ", what was confirmed apart" if any(row.confirmed for row in verdict.rows) else ""
    )
    if len(worse) == len(measured) - 1:
        return f"{choice}: {first.option} is shown to be better than every other: {by}, {joint}."
    said = f"{choice}: {names(level)} cannot be told apart" if len(level) > 1 else f"{choice}: {first.option} leads"
    if len(level) == len(measured):
        return f"{said}: no difference is shown."
    if not worse:
        return f"{said}; of the others none is shown to be worse than {first.option}."
    verb = "is" if len(worse) == 1 else "are"
    top = " at the top" if len(level) > 1 else ""
    return f"{said}{top}; {by} {verb} shown to be worse than {first.option}, {joint}."


def _luck(verdict: Verdict, measured: list[Row]) -> list[str]:
    if verdict.seed_sd is None:
        return [
            "One seed each was seen and the spread over seeds is not known: the intervals hold the luck of tuning "
            "alone, from the scatter of an option's trials, and a difference may still be luck of the seed."
            if any(row.low is not None for row in measured)
            else "One seed each was seen, and too few trials of an option completed for an interval: any "
            "difference may be luck."
        ]
    freedom = f", {verdict.seed_df} degrees of freedom" if verdict.seed_df is not None else ""
    said = f"Chance is counted from the standard deviation over fresh seeds ({verdict.seed_sd:.2g}{freedom})"
    if any(len(row.values) > 1 for row in measured):
        return [said + " and from what other draws of the tuned values would change."]
    return [said + "; what tuning would change cannot be seen in one trial each."]


def _budgets(verdict: Verdict) -> list[str]:
    said = []
    counts = [row.trials for row in verdict.rows if row.best is not None]
    if min(counts) < max(counts):
        said.append(
            f"The options had {min(counts)} to {max(counts)} trials; two are compared by the mean best of as many as "
            "the smaller had, since more trials find a better best by themselves."
        )
    stopped = [row.option for row in verdict.rows if row.best is None and row.pruned]
    if stopped:
        one = len(stopped) == 1
        said.append(
            f"{names(stopped)} {'was' if one else 'were'} only seen in trials that were stopped early, whose values do "
            f"not compare; {'it has' if one else 'they have'} no best."
        )
    failing = [row for row in verdict.rows if row.failure_rate >= WIDE]
    if failing:
        said.append(f"Failed: {names([f'{row.option} {row.failed} of {row.trials}' for row in failing])}.")
    return said


def _learning_rates(verdict: Verdict, measured: list[Row]) -> list[str]:
    found = [(row.option, row.lr_range) for row in measured if row.lr_range is not None]
    if not found:
        return []
    ordered = sorted(found, key=lambda each: each[1].decades)
    (narrow, least), (wide, most) = ordered[0], ordered[-1]
    said = (
        f"Learning rate, within {verdict.tolerance} of an option's best: {wide} over {most.decades:.1f} decades or more"
    )
    if len(ordered) > 1:
        said += f", the widest of {len(ordered)}; {narrow} over {least.decades:.1f}, the narrowest"
    edges = [f"{option} ({good.edge})" for option, good in found if good.edge]
    if edges:
        said += f"; at the edge of its domain, so that better ones may lie beyond: {names(edges)}"
    return [said + "."]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _rates(row: Row) -> str:
    good = row.lr_range
    if good is None:
        return "-"
    left = "|" if good.edge in ("low", "both") else ""
    right = "|" if good.edge in ("high", "both") else ""
    return f"{left}{good.low:.2g} to {good.high:.2g}{right} ({good.decades:.1f})"
