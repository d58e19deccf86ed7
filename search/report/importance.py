"""How much each choice matters to the objective, by two measures that answer different questions."""

from search.analysis.importance import LEVEL, PERMUTATIONS, Importance, Share
from search.console.tables import Fitting


def table(importance: Importance) -> Fitting:
    """Parameter and both measures with what chance gives at most, the most important for the best trials first."""
    title = f"importance over {importance.trials} complete trials"
    shown = Fitting(title, spare=[(2, 4)])
    shown.add_column("parameter", overflow="fold", min_width=20)
    for name in ("PED-ANOVA", "by\nchance", "fANOVA", "by\nchance"):
        shown.add_column(name, justify="right", no_wrap=True)
    for s in importance.shares:
        ped, fanova = (f"{value:.0%}{'*' if out else ' '}" for value, out in _both(s))
        chance = ["-" if limit is None else f"to {min(limit, 1):.0%}" for limit in (s.ped_chance, s.fanova_chance)]
        shown.add_row(s.name, ped, chance[0], fanova, chance[1])
    return shown


def sentences(importance: Importance) -> list[str]:
    """What each measure means, what stands out of chance, what is left out, and what it cannot say."""
    shares = importance.shares
    if not shares:
        return [f"Importance: {importance.why} ({importance.trials} complete)."]
    best = next((s.name for s in shares if s.ped_stands_out), None)
    by_variance = sorted(shares, key=lambda s: -s.fanova)
    moves = next((s.name for s in by_variance if s.fanova_stands_out), None)
    most = [_most(best, shares[0].ped_anova, shares[0].ped_chance)]
    most += [_most(moves, by_variance[0].fanova, by_variance[0].fanova_chance)]
    rest = 1 - sum(share.fanova for share in shares)
    said = [
        f"PED-ANOVA asks what sets the best {importance.best:.0%} of the trials apart from all: {most[0]}. Its "
        "shares add up to 100 % even where nothing matters.",
        f"fANOVA asks what moves the objective anywhere in the space, bad configs included: {most[1]}. Each share is "
        f"of the variance of a fitted model; the remaining {max(rest, 0):.0%} is interaction of several parameters, "
        "or noise.",
    ]
    if best and moves and best != moves:
        said.append(f"The two differ: take care of {moves} to avoid bad configs, of {best} to get from good to best.")
    if shares[0].ped_chance is not None:
        said.append(
            f"Marked * is what is beyond chance, from {PERMUTATIONS} permutations of the trials' values: where nothing "
            f"matters at all, one table in {round(1 / LEVEL)} has a mark."
        )
    if importance.left_out:
        said.append(
            f"Left out: {len(importance.left_out)} that not every trial has with one domain, or that do not vary (such "
            f"as {importance.left_out[0]}); the effect of an option's own parameters counts as the option's."
        )
    said.append(
        "Trials that were stopped early or failed are not in it, so what makes a config hopeless weighs too little."
    )
    return said


def _both(share: Share) -> tuple[tuple[float, bool], tuple[float, bool]]:
    return (share.ped_anova, share.ped_stands_out), (share.fanova, share.fanova_stands_out)


def _most(name: str | None, largest: float, chance: float | None) -> str:
    if name is not None:
        return f"{name} most"
    if chance is None:
        return f"the largest share is {largest:.0%}, which was not compared with chance"
    return f"nothing stands out, the largest share is {largest:.0%} and chance gives it up to {min(chance, 1):.0%}"
