"""Remove a search: its study, its runs and their files, what waits on this disk. First it is said what goes."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from denoise.errors import UserError
from search.console.printed_commands import make
from search.runtime.retry import tried_again
from search.searches import removal
from search.storages import liveness
from search.storages.lock import lock
from search.storages.trials import CONFIRM, Trials
from search.tracking.tags import Tag
from search.tracking.tracker import Tracker


@dataclass(frozen=True)
class Removal:
    """What there is of a search.

    runs: all of its runs in MLflow, deleted ones too, its own the first; champion: models that would lose theirs.
    """

    name: str
    study: Trials | None
    runs: list[Any]
    folders: list[Path]
    champion: list[str]

    @property
    def bytes(self) -> int:
        """On this disk."""
        return sum(file.stat().st_size for folder in self.folders for file in folder.rglob("*") if file.is_file())

    def text(self) -> list[str]:
        """What goes, a line each."""
        trainings = sum(run.data.tags.get(Tag.ROLE) != "search" for run in self.runs)
        said = [f"search {self.name}: {trainings} trainings in MLflow, with their metrics and pictures"]
        if self.study is not None:
            said.append(f"  its study, of {len(self.study.get_trials(deepcopy=False))} trials, in Optuna's storage")
        if self.folders:
            said.append(f"  {self.bytes / 1e6:,.1f} MB of files: weights, pictures, states")
        return said + [f"  the champion of the registered model {name}" for name in self.champion]


def find(books: Tracker, parent: Any, study: Trials | None) -> Removal:
    """What there is of the search of this run. study: None where Optuna's storage has none."""
    name, of_it = str(parent.info.run_name), {Tag.PARENT: parent.info.run_id}
    runs = [parent, *books.find(**of_it), *books.deleted(**of_it)]
    known = {run.info.run_id for run in runs}
    runs += [run for run in books.find(role="reproduce") if run.data.tags.get(Tag.REPRODUCES) in known]
    folders = [] if books.files is None else [books.files.folder(run.info.run_id).parent for run in runs]
    folders.append(books.store / "checkpoints" / name)
    there = [folder for folder in folders if folder.exists()]
    return Removal(name, study, runs, there, removal.champions(books, [run.info.run_id for run in runs]))


def remove(books: Tracker, found: Removal, url: str) -> str:
    """Remove it, the study first: what a removal that was interrupted has left can be removed again.

    Returns what is left to do, in a line, or nothing.

    Errors: UserError where a process is at it.
    """
    with lock(books.store, found.name, url=url):
        if found.study is not None:
            if running := liveness.elsewhere(found.study):
                raise UserError(
                    f"search {found.name}: {len(running)} of its trials run in other processes; stop them first"
                )
            delete = tried_again(optuna.delete_study, "the storage")
            for name in _studies(found.study):
                delete(study_name=name, storage=found.study.storage)
        left = removal.remove(books, [run.info.run_id for run in reversed(found.runs)])
        for folder in found.folders:
            if folder.exists():  # MLflow's command may have removed it
                shutil.rmtree(folder)
    for file in (books.store / "locks").glob(f"{found.name}*.lock"):
        file.unlink()
    return left


def _studies(study: Trials) -> Sequence[str]:
    """The study's name, and that of its confirmation where there is one; the latter first."""
    names = {one.study_name for one in optuna.get_all_study_summaries(study.storage, include_best_trial=False)}
    return [name for name in (study.study_name + CONFIRM, study.study_name) if name in names]


def ask(found: Removal) -> list[str]:
    """What is said before anything goes."""
    how = make("remove", ["--yes"], run=found.name)
    return [*found.text(), f"Nothing is removed yet; {how} does it, and nothing brings it back."]
