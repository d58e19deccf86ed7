"""Everything that a report of a search says, worked out once from its record; `forms` only show it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from search.analysis import pareto_front as analysis
from search.analysis.confirmation import Confirmation
from search.analysis.ranking import rank
from search.console.tables import Fitting
from search.quality.found import QualityFound
from search.quality.section import quality_section
from search.report import account, importance, leaderboard, pareto_front, rank_correlation, summary
from search.report import confirmation as confirmation_report
from search.report import verdict as verdict_report
from search.report.findings import Findings
from search.report.plots import confirmation as confirmation_plot
from search.report.plots import material
from search.report.plots import verdict as verdict_plot
from search.report.plots.material import Picture
from search.tracking.record import Record, tag
from search.tracking.tags import Tag
from search.tracking.tracker import Tracker

MOST = 500  # rows of the table of all trials
INTERACTIVE = "interactive.html"  # of the search's run


@dataclass(frozen=True)
class Section:
    """A section. said: its sentences, in every form; notes: what else should be known, on the page.

    brief: how many of its tables, the first ones, a terminal shows; folded: the page shows it when it is opened.
    """

    title: str
    said: tuple[str, ...] = ()
    tables: tuple[Fitting, ...] = ()
    notes: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    brief: int = 0
    folded: bool = False

    def __bool__(self) -> bool:
        return bool(self.said or self.tables or self.pictures or self.notes)


@dataclass(frozen=True)
class SearchReport:
    """What a search found, and how to do it again.

    answer: the answer first, then what goes with it; best: the run to take; commands: what to type, and what it does;
    metrics: of the search, by their names in MLflow.
    """

    name: str
    run_id: str
    experiment: str
    answer: tuple[str, ...]
    leaderboard: Section
    front: Section
    confirmation: Section
    verdicts: tuple[Section, ...]
    curves: Section
    samples: Section
    cost: Section
    quality: Section
    health: Section
    outcomes: Section
    further: tuple[Section, ...]
    commands: tuple[tuple[str, str], ...]
    environment: Section
    every: Section
    best: str = ""
    interactive: bool = False  # whether the search's run has pictures to hover over
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[Section, ...]:
        """All sections that say something, in the order in which they are read."""
        found = (self.leaderboard, self.confirmation, self.front, *self.verdicts, self.curves, self.samples)
        found += (self.quality, self.cost, self.health, self.outcomes, *self.further, self.environment, self.every)
        return tuple(part for part in found if part)


def read(
    tracker: Tracker, run_id: str, found: Confirmation | None, quality: QualityFound | None = None
) -> SearchReport:
    """The report of the search with this run, as the tracker has it. Errors: UserError.

    found: its confirmation; quality: what was measured of the images that it drew.
    """
    run = tracker.run_of(run_id)
    tags, params = run.data.tags, run.data.params
    records = rank(tracker.records(run_id))
    baseline: list[str] = tag(run_id, tags, Tag.BASELINE, list, [])
    cost: str | None = tag(run_id, tags, Tag.COST, [*pareto_front.NAMES])
    findings, asked = summary.findings(tracker, run_id) or Findings([]), params.get("mode") == "ablation"
    front, best = _front(records, baseline, cost), tags.get(Tag.BEST, "")
    health, failed = account.health(records, baseline), account.failures(records, baseline)
    said = [*front.said, *(text for each in findings.verdicts if asked for text in verdict_report.answers(each)[-1:])]
    spent, costs = account.costs(records, found, run.data.metrics), material.costs(records, cost, baseline)
    curves, samples = (
        material.learning(tracker, records, baseline),
        material.samples(tracker, run_id, records, baseline, found),
    )
    return SearchReport(
        name=str(run.info.run_name),
        run_id=run_id,
        experiment=tracker.experiment_id,
        answer=_answer(records, baseline, found, summary.starts(tags.get(Tag.STARTS, "")), said),
        leaderboard=_leaderboard(records, baseline, found),
        front=front,
        confirmation=_confirmation(found),
        verdicts=_verdicts(findings, asked),
        curves=Section("Learning curves", pictures=tuple(curves)),
        samples=Section("Samples", pictures=tuple(samples)),
        quality=Section(*quality_section(quality)),
        cost=Section("Cost", said=spent, pictures=tuple(costs)),
        health=Section("Health of the networks", tables=() if health is None else (health,)),
        outcomes=Section("Outcomes", account.outcomes(records), () if failed is None else (failed,)),
        further=_further(findings),
        commands=account.commands(records, tag(run_id, tags, Tag.TYPED, list), run_id, best),
        environment=Section("Environment", notes=account.environment(records, params)),
        every=Section("Every trial", tables=(leaderboard.leaderboard(records, baseline, "", MOST),), folded=True),
        best=best,
        interactive=tracker.has(run_id, INTERACTIVE),
        metrics=account.figures(records, baseline, found),
    )


def _answer(
    records: Sequence[Record],
    baseline: Sequence[str],
    found: Confirmation | None,
    starts: Sequence[int],
    more: Sequence[str],
) -> tuple[str, ...]:
    """Whether something is better, what to take; then what else answers the question."""
    said = [leaderboard.summary(records, baseline)]
    if found is not None:
        said = [confirmation_report.answer(found), f"Best: {confirmation_report.take(found)}"]
    return tuple(filter(None, [*said, summary.undrawn(records, baseline, starts, found), *more]))


def _leaderboard(records: Sequence[Record], baseline: Sequence[str], found: Confirmation | None) -> Section:
    finalists = found.finalists if found is not None else []
    confirmed = {
        one.trial: confirmation_report.in_short(one, found) for one in finalists if found and one.trial is not None
    }
    table = leaderboard.complete(records, baseline, confirmed, "")
    notes = ["The search trained each config on one seed: of many, the first ones are luckier than they are good."]
    if confirmed:
        share = f"{100 * found.settings.level:g} %" if found else ""
        notes.append(f"On fresh seeds: the difference in test/loss, with the {share} interval; below 0 is better.")
    return Section("Leaderboard", tables=(table,) if table.rows else (), notes=tuple(notes), brief=1)


def _front(records: Sequence[Record], baseline: Sequence[str], cost: str | None) -> Section:
    if cost is None:
        return Section("")
    front = analysis.find(records, cost, baseline)
    tables = (pareto_front.table(front, baseline),)
    return Section("Quality against cost", tuple(pareto_front.sentences(front)), tables, brief=1)


def _confirmation(found: Confirmation | None) -> Section:
    if found is None:
        return Section("Confirmation")
    arms, comparisons = confirmation_report.tables(found)
    take = f"Best: {confirmation_report.take(found)}"
    said = tuple(text for text in confirmation_report.sentences(found) if text != take)
    says = "Differences on fresh seeds with their intervals: left of 0 is better."
    pictures = (Picture(confirmation_plot.picture(found), says, caption=False),)
    return Section("Confirmation on fresh seeds", said, (comparisons, arms), pictures=pictures, brief=1)


def _verdicts(findings: Findings, asked: bool) -> tuple[Section, ...]:
    """A section a choice of which something was compared; all of it where the search asks about that."""
    parts, before = [], set[str]()
    for verdict in findings.verdicts:
        if not asked and not verdict_report.compared(verdict):
            continue
        every = verdict_report.sentences(verdict)
        said = every if asked else verdict_report.answers(verdict)
        notes = [text for text in every if text not in said and text not in before]
        before |= {*notes}
        many = len(verdict.rows) > 1
        tables = (verdict_report.table(verdict),) if many else ()
        says = "Each option's trials, its best one and the interval."
        pictures = (Picture(verdict_plot.picture(verdict), says, caption=False),) if many else ()
        parts.append(Section(f"Which {verdict.choice}?", tuple(said), tables, tuple(notes), pictures, int(asked)))
    return tuple(parts)


def _further(findings: Findings) -> tuple[Section, ...]:
    """How much each choice matters, whether early stopping can be trusted, whether another width agrees."""
    found, parts = findings.importance, []
    if findings.widths:
        parts.append(Section("Another width", tuple(rank_correlation.width_sentence(each) for each in findings.widths)))
    if found is not None and found.shares:
        said = tuple(importance.sentences(found))
        parts.append(Section("Importance of the choices", (), (importance.table(found),), said))
    if any(each.correlation is not None for each in findings.rungs):
        said = tuple(rank_correlation.sentences(findings.rungs))
        parts.append(Section("Early stopping", (), (rank_correlation.table(findings.rungs),), said))
    return tuple(parts)
