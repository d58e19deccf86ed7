"""What an Optuna user takes along of a search: pictures to hover over, its study, its trials as a table."""

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from denoise import fault
from denoise.metrics import STEP_SECONDS
from search.analysis import pareto_front
from search.analysis.importance import Importance, quiet
from search.report.forms import interactive as page
from search.report.plots.interactive import Shown, plots
from search.report.report import INTERACTIVE
from search.space.option import difference
from search.storages.attributes import OfTrial
from search.storages.trials import Trials
from search.tracking.record import Record

JOURNAL, TABLE = "optuna-journal.log", "trials.csv"
COLUMNS = ("number", "state", "value", "duration", "params")
OF_A_PROCESS = (OfTrial.WORKER, OfTrial.BEAT, OfTrial.DIED_AT)


def files(
    study: Trials,
    records: Sequence[Record],
    baseline: Sequence[str],
    cost: str | None,
    importance: Importance | None,
    note: Callable[[str], None],
) -> dict[str, bytes]:
    """interactive.html, optuna-journal.log and trials.csv of a search; `note` is told what cannot be made, a line each.

    cost: the metric that quality is weighed against; None: none is.
    """
    trials = study.get_trials(deepcopy=False)
    front = pareto_front.find(records, cost or STEP_SECONDS, baseline)
    names = {one.number: difference(one.overrides, baseline) for one in records if one.number is not None}
    shown = Shown(trials, names, importance, front)
    made: dict[str, bytes] = {}
    makers: dict[str, Callable[[], bytes]] = {
        INTERACTIVE: lambda: page.render(study.study_name, list(plots(shown))),
        JOURNAL: lambda: journal(study, trials),
        TABLE: lambda: study.trials_dataframe(COLUMNS).to_csv(index=False).encode(),
    }
    for name, make in makers.items():
        try:
            made[name] = make()
        except Exception as error:
            note(f"{name} is not written: {fault.line(error)}")
    return {name: content for name, content in made.items() if content}


def journal(study: Trials, trials: Sequence[FrozenTrial]) -> bytes:
    """A study of these trials as the file of Optuna's journal storage, which Optuna and its dashboard open.

    It has no word of the processes that trained them.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import BaseJournalBackend

    class Lines(BaseJournalBackend):
        def __init__(self) -> None:
            self.logs: list[dict[str, Any]] = []

        def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
            return iter(self.logs[log_number_from:])

        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            self.logs += logs

    lines = Lines()
    with quiet():
        written = optuna.create_study(
            storage=JournalStorage(lines), study_name=study.study_name, directions=study.directions
        )
        for trial in trials:
            kept = copy.copy(trial)
            kept.user_attrs = {key: value for key, value in trial.user_attrs.items() if key not in OF_A_PROCESS}
            written.add_trial(kept)
    return "".join(json.dumps(each, separators=(",", ":")) + "\n" for each in lines.logs).encode()
