"""Optuna's own pictures of a search, to hover over: each as plotly's JSON, with a sentence on how to read it."""

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from denoise.metrics import VAL_LOSS
from denoise.pictures.figure import BLUE, DOT, ORANGE, SKY
from search.analysis.importance import Importance, Share, quiet
from search.analysis.pareto_front import Front, loss_of
from search.report import importance as importance_report
from search.report import pareto_front
from search.report.plots.named_study import AtStep, copied, look, parameter, text

if TYPE_CHECKING:
    from optuna.importance import BaseImportanceEvaluator
    from plotly.graph_objects import Figure

Drawn = tuple[str, list[dict[str, Any]]]  # how to read it; plotly's figures as plain data
FEW = 4  # trials that make a picture
ENOUGH = 6  # trials that make a slice
AXES, SLICES = 8, 12  # parameters at most
BESIDE, OPTIONS = 3, 8  # slices in a row, of which each has no more options
INK, GRID, CLEAR = "#222222", "#dddddd", "rgba(0,0,0,0)"  # clear: the page's own paper is seen
LAYOUT: dict[str, Any] = {
    "paper_bgcolor": CLEAR,
    "plot_bgcolor": CLEAR,
    "font": {"color": INK, "size": 12},
    "hoverlabel": {"bgcolor": "#ffffff", "font": {"color": INK}},
    "margin": {"l": 70, "r": 30, "t": 30, "b": 60},
}
MARKS = {"color": BLUE, "size": 8, "opacity": 0.6, "showscale": False}


class Empty(Exception):
    """A picture would show nearly nothing; the text says why."""


@dataclass(frozen=True)
class Plot:
    """Figures under a title. says: how to read them; without figures: why there are none."""

    title: str
    says: str
    figures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shown:
    """What the pictures are drawn of.

    names: in what each trial differs from the baseline, by number; front: the complete trials by cost.
    """

    trials: Sequence[FrozenTrial]
    names: Mapping[int, str]
    importance: Importance | None
    front: Front

    @cached_property
    def at(self) -> AtStep:
        """The step at which trials are compared. Errors: Empty."""
        found = look(self.trials)
        if len(found.values) < FEW:
            raise Empty(f"fewer than {FEW} trials have a value at one step")
        return found

    @cached_property
    def study(self) -> Study:
        """The trials with their values at that step. Errors: Empty."""
        return copied(self.trials, {number: [min(v, self.at.edge)] for number, v in self.at.values.items()})

    @cached_property
    def values(self) -> dict[str, list[Any]]:
        """The values that the compared trials have of each parameter, the most frequent parameter first."""
        found: dict[str, list[Any]] = {}
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            for name, value in trial.params.items():
                found.setdefault(name, []).append(value)
        return dict(sorted(found.items(), key=lambda pair: -len(pair[1])))

    @property
    def compared(self) -> str:
        """What is compared, in a sentence."""
        others, above = len(self.trials) - len(self.at.values), sum(v > self.at.edge for v in self.at.values.values())
        said = f"Trials are compared at step {self.at.step}"
        said += f", which {others} of {len(self.trials)} did not reach" if others else ""
        return f"{said}{f'; far worse, and drawn at the upper edge: {above}' if above else ''}."


def plots(shown: Shown) -> Iterator[Plot]:
    """The pictures of a search; of one that would be nearly empty, why it is left out. Errors: ImportError."""
    with quiet():
        for title, draw in DRAWN.items():
            try:
                says, figures = draw(shown)
            except Empty as error:
                yield Plot(title, f"{error}.")
            else:
                from plotly.io import to_json

                yield Plot(title, says, tuple(to_json(figure, validate=False, engine="json") for figure in figures))


def styled(figure: "Figure", height: int, **more: Any) -> dict[str, Any]:
    """A figure as plain data, in the page's ink, as wide as the page."""
    plain: dict[str, Any] = figure.to_dict()
    layout = plain["layout"]
    for name in ("title", "template", "width"):
        layout.pop(name, None)
    layout |= LAYOUT | {"height": height} | more
    for name in [name for name in layout if name.startswith(("xaxis", "yaxis"))]:
        layout[name] |= {"gridcolor": GRID, "zeroline": False, "automargin": True}
    return plain


def _history(shown: Shown) -> Drawn:
    from optuna.visualization import plot_optimization_history

    drawn = styled(plot_optimization_history(shown.study, target_name=shown.at.name), 380)
    trials, best, *_ = drawn["data"]
    trials |= {"marker": {"color": DOT}, "name": "a trial"}
    best |= {"line": {"color": BLUE, "shape": "hv"}, "name": "best so far"}
    says = "A dot is a trial, the line the best so far: where it stays level, further trials found nothing better."
    return f"{says} {shown.compared}", [drawn]


def _curves(shown: Shown) -> Drawn:
    from optuna.visualization import plot_intermediate_values

    drawn = styled(plot_intermediate_values(shown.study), 460)
    complete = [(trial.values[0], trial.number) for trial in shown.trials if trial.state == TrialState.COMPLETE]
    best = min(complete)[1] if complete else None
    with_one = [trial.number for trial in shown.trials if trial.intermediate_values]
    for number, trace in zip(with_one, drawn["data"], strict=True):
        differs = shown.names.get(number, "")
        colour = BLUE if number == best else ORANGE if differs == "baseline" else DOT
        trace |= {"name": f"trial {number}: {text(differs)}", "opacity": 0.5 if colour == DOT else 1}
        trace |= {"line": {"color": colour, "width": 1 if colour == DOT else 2.5}, "marker": {"size": 4}}
    known = [v for trial in shown.trials for v in trial.intermediate_values.values() if v <= shown.at.edge]
    low, high = min(known), max(v for v in shown.at.values.values() if v <= shown.at.edge)
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    drawn["layout"] |= {"hovermode": "closest", "hoverlabel": LAYOUT["hoverlabel"] | {"namelength": -1}}
    drawn["layout"]["yaxis"] |= {"title": {"text": VAL_LOSS}, "range": [low - room, high + room]}
    says = "A line is a trial, by the steps at which it was looked at; blue is the best complete one, orange the "
    says += "baseline. A line that ends early was stopped, or failed. Where lines cross a trial overtakes another: "
    return f"{says}stopping early is a risk.", [drawn]


def _slices(shown: Shown) -> Drawn:
    from optuna.visualization import plot_slice

    names = [name for name, values in shown.values.items() if len(values) >= ENOUGH and len(set(values)) > 1]
    if not names:
        raise Empty(f"no parameter has two values in {ENOUGH} trials")
    wide = [name for name in names[:SLICES] if isinstance(shown.values[name][0], str)]
    wide = [name for name in wide if len(set(shown.values[name])) > OPTIONS]
    narrow = [name for name in names[:SLICES] if name not in wide]
    rows = [[name] for name in wide] + [narrow[i : i + BESIDE] for i in range(0, len(narrow), BESIDE)]
    figures = []
    for row in rows:
        figures.append(drawn := styled(plot_slice(shown.study, row, target_name=shown.at.name), 320))
        for trace in drawn["data"]:
            trace |= {"marker": MARKS, "x": [_bare(x) for x in trace["x"]]}
        there = {x for trace in drawn["data"] for x in trace["x"]}
        for axis in drawn["layout"].values():
            if isinstance(axis, dict) and "categoryarray" in axis:
                axis["categoryarray"] = [x for x in map(_bare, axis["categoryarray"]) if x in there]
    says = "A dot is a trial at its value of one parameter, whatever its others are; options stand from the one with "
    says += "the lowest loss on. A slope or a valley is worth a look; a cloud says that other parameters matter more."
    left = f" Parameters that fewer than {ENOUGH} trials have are not drawn." if len(shown.values) > len(names) else ""
    return f"{says} {shown.compared}{left}", figures


def _parallel(shown: Shown) -> Drawn:
    from optuna.visualization import plot_parallel_coordinate

    every = len(shown.at.values)
    names = [name for name, values in shown.values.items() if len(values) == every and len(set(values)) > 1]
    if len(names) < 2:
        raise Empty("fewer than two parameters vary that every trial has")
    drawn = styled(plot_parallel_coordinate(shown.study, names[:AXES], target_name=shown.at.name), 600)
    says = "A line is a trial through its values; the lower its loss, the more it stands out. Where such lines meet on "
    return f"{says}an axis, that value goes well with what else these trials have. {shown.compared}", [drawn]


def _importance(shown: Shown) -> Drawn:
    from optuna.visualization import plot_param_importances

    if shown.importance is None:
        raise Empty("it is measured for one objective")
    shares, said = shown.importance.shares, importance_report.sentences(shown.importance)
    if len(shares) < 2:
        raise Empty("only one parameter is in every trial" if shares else said[0].partition(": ")[2].rstrip("."))
    drawn = styled(plot_param_importances(shown.study, evaluator=_measured(shares)), 120 + 44 * len(shares))
    (bars,) = drawn["data"]
    by_name = {parameter(share.name): share for share in shares}
    ordered = [by_name[name] for name in bars["y"]]
    drawn["data"] = [
        bars | _bars("PED-ANOVA", BLUE, [(share.ped_anova, share.ped_stands_out) for share in ordered]),
        bars | _bars("fANOVA", SKY, [(share.fanova, share.fanova_stands_out) for share in ordered]),
    ]
    drawn["layout"]["xaxis"] |= {"title": {"text": "share"}, "tickformat": ".0%"}
    drawn["layout"]["yaxis"].pop("title")
    says = (
        f"PED-ANOVA: what sets the best {shown.importance.best:.0%} of the {shown.importance.trials} complete trials "
    )
    says += "apart from all. fANOVA: what moves the loss anywhere in the space. Marked * is what is beyond chance; the "
    return f"{says}figures are those of verdict.txt, which says what they cannot tell.", [drawn]


def _bars(name: str, colour: str, shares: Sequence[tuple[float, bool]]) -> dict[str, Any]:
    written = [f"{share:.0%}{'*' * out}" for share, out in shares]
    hover = f"%{{y}}, {name}: %{{text}}<extra></extra>"
    return {"name": name, "marker": {"color": colour}, "x": [x for x, _ in shares], "text": written} | {
        "hovertemplate": hover
    }


def _measured(shares: Sequence[Share]) -> "BaseImportanceEvaluator":
    """The shares that the report has, for a picture that would measure others."""
    from optuna.importance import BaseImportanceEvaluator

    class Measured(BaseImportanceEvaluator):
        def evaluate(self, study: Study, params: Any = None, *, target: Any = None) -> dict[str, float]:
            return {parameter(share.name): share.ped_anova for share in shares}

    return Measured()


def _front(shown: Shown) -> Drawn:
    from optuna.visualization import plot_pareto_front

    front, (name, unit) = shown.front, pareto_front.NAMES[shown.front.cost]
    if len(front.all) < FEW:
        raise Empty(f"fewer than {FEW} complete trials have a cost")
    values = {int(one.number or 0): [one.metrics[front.cost], loss_of(one)] for one in front.all}
    axes = [f"{name}, {unit}" if unit else name, VAL_LOSS]
    drawn = styled(plot_pareto_front(copied(shown.trials, values, 2), target_names=axes), 420)
    behind, best = drawn["data"]
    behind |= {"marker": MARKS | {"color": DOT}, "name": "behind it"}
    best |= {"marker": MARKS | {"opacity": 1}, "name": "on the front"}
    return " ".join(pareto_front.sentences(front)), [drawn]


def _bare(value: Any) -> Any:
    """An option as it is called: Optuna's slices have it as Python writes it."""
    return ast.literal_eval(value) if isinstance(value, str) and value[:1] in "\"'" else value


DRAWN: dict[str, Callable[[Shown], Drawn]] = {
    "History": _history,
    "Learning curves": _curves,
    "Slices": _slices,
    "Parallel coordinates": _parallel,
    "Importance": _importance,
    "Cost against quality": _front,
}
