"""Whether a cheaper look agrees with the full one: rungs with the end of a training, one width with another."""

import math
from collections.abc import Sequence

from search.analysis.rank_correlation import CASES, FEW, WIDTH, Agreement
from search.console.tables import Fitting


def table(agreements: Sequence[Agreement]) -> Fitting:
    """Rung, trials with both values, correlation with its interval, what goes on, what that takes, the answer."""
    title = f"rank correlation with {agreements[0].full}" if agreements else "rank correlation"
    shown = Fitting(title, spare=[5, 4, 1])
    for name in ("at", "trials", "Spearman", "95 % interval", "goes on", "takes", "trusted"):
        shown.add_column(name, justify="left" if name in ("at", "trusted") else "right", no_wrap=True)
    for each in agreements:
        interval = "-" if each.low is None or each.high is None else f"{each.low:.2f} to {each.high:.2f}"
        shown.add_row(
            each.cheap,
            f"{each.pairs} of {each.seen}",
            "-" if each.correlation is None else f"{each.correlation:.2f}",
            interval,
            "?" if each.kept is None else f"{each.kept:.0%}",
            "-" if each.kept == 1 or each.needed == math.inf else f"{each.needed:.2f}",
            each.answer,
        )
    return shown


def sentences(agreements: Sequence[Agreement]) -> list[str]:
    """What pruning does to the figures, and last whether early stopping can be trusted here."""
    if not agreements:
        return ["Early stopping: every trial was looked at once, so nothing can be said."]
    said = []
    first = next((each for each in agreements if each.kept != 1), agreements[0])
    lost = first.seen - first.pairs
    if lost:
        said.append(
            f"{lost} of the {first.seen} trials at {first.cheap} did not come to {first.full}: only what was let pass "
            "is in these figures, which usually makes a correlation look smaller than it is."
        )
    if first.kept == 1:
        return [*said, f"Early stopping: this pruner stops nothing here; at {first.cheap} {_figures(first)}."]
    what = "a halving would let the best half" if first.kept is None else f"the best {first.kept:.0%}"
    what += f" go on there, which keeps a config of the final best tenth in {{}}{CASES[0]} of {CASES[1]} cases{{}}"
    takes = f"from a rank correlation of {first.needed:.2f} on" if first.needed < math.inf else "at no rank correlation"
    if first.answer == "cannot":
        said.append(
            f"Early stopping cannot be trusted here at {first.cheap}: {what.format('fewer than ', '')} "
            f"({_figures(first)}; normal values: {takes})."
        )
        after = agreements[agreements.index(first) + 1 :]  # there it would be the first look, and keep as many
        later = next((each for each in after if each.against(first.needed) == "can be"), None)
        if later is not None:
            said[-1] += f" From {later.cheap} on it can be ({_figures(later)}): let the pruner begin at that step "
            said[-1] += "(pruner.first of funnel, pruner.min_resource of the halving ones)."
    elif first.answer == "can be":
        said.append(
            f"Early stopping can be trusted here at {first.cheap}: {what.format('', ' or more')} ({_figures(first)}; "
            f"normal values: {takes})."
        )
    else:
        said.append(
            f"Whether early stopping can be trusted here at {first.cheap}: too few trials to say; "
            f"{what.format('', f' {takes}')} (normal values); {_figures(first)}."
        )
    return said


def width_sentence(agreement: Agreement) -> str:
    """Whether what is found at one width holds at another."""
    answer = agreement.against(WIDTH)
    verdict = {"can be": "holds", "cannot": "does not hold"}.get(answer, "may hold or not, too few to say,")
    said = f"What is found at {agreement.cheap} {verdict} at {agreement.full}"
    if answer in ("can be", "cannot"):
        share = "2 of 3 cases or more" if answer == "can be" else "fewer than 2 of 3 cases"
        said += f", where the better one of two configs is the same one in {share}"
    return f"{said}: {_figures(agreement)}."


def _figures(agreement: Agreement) -> str:
    over = f"over {agreement.pairs} trials that have both"
    if agreement.correlation is None:
        return f"no rank correlation {over}"
    if agreement.low is None or agreement.high is None:
        return f"rank correlation {agreement.correlation:.2f} {over}, no interval below {FEW}"
    return f"rank correlation {agreement.correlation:.2f} ({agreement.low:.2f} to {agreement.high:.2f}, 95 %) {over}"
