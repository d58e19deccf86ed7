"""One search: ask, train, tell, until the trials are done; the same command goes on where it was stopped."""

import hashlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from omegaconf import OmegaConf
from optuna.study import Study
from optuna.trial import Trial, TrialState
from safetensors.torch import save_file

from denoise import catalog, train
from denoise.config import Composed, compose, next_compose, parse
from denoise.refusal import Refusal
from search import fit, history, pretrained, rdb, record, report, space, storage, tracking
from search.display import Display
from search.record import Record
from search.space import Space
from search.tracking import Run, Tracker, open_tracker
from search.trial import Trained, open_run, perform, plain_config


@dataclass
class Search:
    """A search that was checked and may begin; nothing is written before."""

    composed: Composed
    space: Space
    points: list[dict[str, Any]]  # the baseline and the known starts, in the order of their trials
    left_out: list[str]
    name: str
    store: Path
    storage_url: str
    note: str = ""  # what to know of the sampler on this space
    most: int | None = None  # how many trials there can be, where the sampler lists the space

    @property
    def total(self) -> int:
        """How many trials the search is to have."""
        wanted = int(self.composed.cfg.search.n_trials)
        return wanted if self.most is None else min(wanted, self.most)

    @property
    def baseline(self) -> list[str]:
        """The overrides of trial 0."""
        return self.space.suggest(optuna.trial.FixedTrial(self.points[0]))


def prepare(overrides: Sequence[str]) -> Search:
    """Check a search down to the baseline's model and optimizer, writing nothing. Errors: Refusal."""
    composed = compose(overrides, "search")
    cfg = composed.cfg
    if cfg.search.mode != "joint":
        raise Refusal(f"search.mode={cfg.search.mode}: unknown; legal: joint")
    if cfg.search.name is not None and not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", str(cfg.search.name)):
        raise Refusal(f"search.name={cfg.search.name}: not a name; letters, digits, dots, dashes and _ are legal")
    found = space.build(composed, overrides)
    points = [found.point(composed)]
    left_out: list[str] = []
    for start in cfg.search.enqueue:
        point = known_start(found, start, overrides)
        if point is None:
            left_out.append(" ".join(start))
        elif point not in points:
            points.append(point)
    train.prepare(pretrained.resolve(cfg))
    inner = storage.sampler(cfg).fresh(0)
    note = fit.check(inner, str(composed.choices["sampler"]), found)
    catalog.call(cfg.pruner, where="pruner")
    store = Path(cfg.store).expanduser()
    url = cfg.search.storage or f"sqlite:///{(store / 'optuna.db').resolve()}"
    what: dict[str, Any] = {"space": found.describe(), "config": plain_config(composed)}
    what |= {"points": points, "seed": cfg.seed, "sampler": dict(cfg.sampler), "pruner": dict(cfg.pruner)}
    digest = hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()
    name = cfg.search.name or f"{composed.choices['data']}-{composed.choices['model']}-{cfg.search.mode}"
    name = f"{name}-{digest[:8]}"
    return Search(composed, found, points, left_out, name, store, url, note, fit.most(inner, found))


def known_start(found: Space, start: Any, overrides: Sequence[str]) -> dict[str, Any] | None:
    """Where a known start stands in the space; None outside of it. Errors: Refusal for what is no config."""
    if not OmegaConf.is_list(start) or not all(isinstance(text, str) for text in start):
        raise Refusal(f"search.enqueue: {start} is no list of overrides; write [[optimizer=muon],[activation=gelu]]")
    mine = {parse(text).key_or_group.split(".")[0] for text in start}
    others = [text for text in overrides if parse(text).key_or_group.split(".")[0] not in mine]
    composed = compose([*others, *start], "search")
    try:
        return found.point(composed)
    except Refusal:
        return None


def run(search: Search, study: Study, tracker: Tracker, display: Display, began: float) -> list[Record]:
    """Run the trials that are still missing and return all of them, best first.

    `began` is when the opening of the stores did, on the monotonic clock: the cost of searching counts from there.
    """
    parent = open_parent(tracker, search)
    for point in search.points[len(study.get_trials(deepcopy=False)) :]:
        study.enqueue_trial(point)
    trained: list[Trained] = []
    display.continues(count(study))
    if search.note:
        display.note(search.note)
    if search.left_out:
        display.note(f"not in this search's space, so not tried first: {'; '.join(search.left_out)}")
    try:
        for stale in storage.left_behind(study):
            trial = Trial(study, stale._trial_id)
            trained.append(one_trial(search, study, trial, tracker, parent, display, again=True))
        while count(study, running=True) < search.total:
            trained.append(one_trial(search, study, study.ask(), tracker, parent, display))
    except KeyboardInterrupt:
        parent.interrupt()
        raise
    records = record.rank(tracker.records(parent.run_id))
    finish(search, tracker, parent, records, trained, began)
    return records


def open_stores(search: Search) -> tuple[Study, Tracker]:
    """Open the study and the tracker, what lies elsewhere first, so that a refusal leaves nothing behind here."""
    cfg = search.composed.cfg
    elsewhere = storage.open_study(search.storage_url, search.name, cfg) if cfg.search.storage else None
    tracker = open_tracker(cfg.tracking.uri, cfg.tracking.experiment, search.store)
    return elsewhere or storage.open_study(search.storage_url, search.name, cfg), tracker


def count(study: Study, running: bool = False) -> int:
    """The trials that are done, and with `running` those under way too."""
    found = history.of(study)
    return found.done + running * found.running


def open_parent(tracker: Tracker, search: Search) -> Run:
    """The MLflow run of the search: the one that is there, or a new one."""
    found = tracker.find(role="search", study=search.name)
    if found:
        return tracker.run(found[0].info.run_id)
    cfg = search.composed.cfg
    params = {"mode": cfg.search.mode, "trials": cfg.search.n_trials, "kinds": ", ".join(search.space.options)}
    params |= {"data": search.composed.choices["data"], "model": search.composed.choices["model"], "seed": cfg.seed}
    params |= {"sampler": search.composed.choices["sampler"], "pruner": search.composed.choices["pruner"]}
    tags = {"role": "search", "study": search.name, "baseline": json.dumps(search.baseline)}
    parent = tracker.start(search.name, tags, params)
    described = json.dumps(search.space.describe(), indent=1).encode()
    parent.artifacts({"space.json": described, "config.yaml": report.yaml(plain_config(search.composed))})
    return parent


def one_trial(
    search: Search,
    study: Study,
    trial: Trial,
    tracker: Tracker,
    parent: Run,
    display: Display,
    again: bool = False,
) -> Trained:
    """Draw, train and tell one trial. With `again` it is one that a kill left behind."""
    storage.claim(trial)
    with rdb.together(trial):
        overrides = search.space.suggest(trial)
    display.trial_starts(trial.number, record.difference(overrides, search.baseline))
    earlier = tracker.find(**{"mlflow.parentRunId": parent.run_id, "trial": str(trial.number)}) if again else []
    ended = next((r for run in earlier if (r := tracking.record(run)).outcome != "running"), None)
    if ended is not None:
        tracker.client.set_terminated(ended.run_id, tracking.STATUS[ended.outcome])
        done = Trained(ended.run_id, ended.outcome, ended.step, ended.value, ended.failure, "", None)
    elif (twin := history.of(study).twin(overrides)) is not None:
        done = _repeat(search, trial, overrides, tracker, parent, twin)
    else:
        done = _train(search, study, trial, overrides, tracker, parent, display, earlier)
    rdb.note(trial, {"overrides": overrides, "run_id": done.run_id, "outcome": done.kind or done.outcome})
    if done.outcome == "complete":
        study.tell(trial, done.value)
    else:
        study.tell(trial, state=TrialState.PRUNED if done.outcome == "pruned" else TrialState.FAIL)
    _state(search, trial).unlink(missing_ok=True)
    rate = done.result.metrics.get("cost/samples_per_second") if done.result else None
    display.trial_ends(done.outcome, done.step, done.value, rate, done.failure)
    return done


def _train(
    search: Search,
    study: Study,
    trial: Trial,
    overrides: list[str],
    tracker: Tracker,
    parent: Run,
    display: Display,
    earlier: list[Any],
) -> Trained:
    composed = next_compose(tuple(overrides))
    checkpoint = _state(search, trial)
    if earlier and checkpoint.exists():
        run = tracker.run(earlier[0].info.run_id)
    else:
        for lost in earlier:
            tracker.client.delete_run(lost.info.run_id)
        number = str(trial.number)
        run = open_run(tracker, composed, overrides, "trial", f"trial-{number:>03}", parent.run_id, trial=number)
    reported = set(study._storage.get_trial(trial._trial_id).intermediate_values)
    max_steps = composed.cfg.trainer.max_steps

    def stop(step: int, value: float) -> bool:
        if step in reported:  # a kill came after: what was decided then is decided again, at the last of them
            return step == max(reported) and step < max_steps and storage.would_stop(study, trial)
        trial.report(value, step)
        return step < max_steps and trial.should_prune()

    def keep(result: train.Result) -> None:
        value, best = result.metrics.get("val/loss"), history.of(study).best
        if value is not None and (best is None or value < best):
            _keep(search, run.run_id, result)

    return perform(composed, run, display, stop, checkpoint, keep=keep)


def _repeat(search: Search, trial: Trial, overrides: list[str], tracker: Tracker, parent: Run, twin: Any) -> Trained:
    number, first = str(trial.number), tracker.record(twin.user_attrs["run_id"])
    composed = next_compose(tuple(overrides))
    tags = {"trial": number, "duplicate_of": first.run_id}
    run = open_run(tracker, composed, overrides, "trial", f"trial-{number:>03}", parent.run_id, **tags)
    run.metrics(first.step, first.metrics)
    run.end("complete", {"step": str(first.step), "weights_sha256": first.tags.get("weights_sha256", "")})
    return Trained(run.run_id, "complete", first.step, first.value, "", "", None)


def _state(search: Search, trial: Trial) -> Path:
    return search.store / "checkpoints" / search.name / f"{trial.number}.ckpt"


def weights_file(search: Search) -> Path:
    """Where the best trial's weights wait until the search ends."""
    return search.store / "checkpoints" / search.name / "best.safetensors"


def _keep(search: Search, run_id: str, result: train.Result) -> None:
    path = weights_file(search)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    weights = {name: tensor.cpu().contiguous() for name, tensor in result.weights.items()}
    save_file(weights, partial, metadata={"run_id": run_id})
    partial.replace(path)


def finish(
    search: Search, tracker: Tracker, parent: Run, records: list[Record], trained: list[Trained], began: float
) -> None:
    """Write the leaderboard, the best config and the cost of searching to the parent run, and close it."""
    top = record.best(records)
    files = report.files(records, search.baseline, search.name)
    if top is not None and top.value is not None:
        files["best.yaml"] = report.best_yaml(top, search.name)
        parent.metrics(len(records), {"best/val/loss": top.value})
        parent.flush({"best": top.run_id})
        if weights_file(search).exists():
            Run(tracker, top.run_id).artifacts({"weights.safetensors": weights_file(search).read_bytes()}, "weights")
            tracker.champion(top.run_id)
            weights_file(search).unlink()
    parent.artifacts(files)
    if trained:
        results = [one.result for one in trained if one.result is not None]
        training = sum(result.training_seconds + result.evaluating_seconds for result in results)
        wall = time.monotonic() - began
        parent.metrics(
            len(records),
            {"search/wall_seconds": wall, "search/training_seconds": training, "search/overhead": 1 - training / wall},
        )
    parent.end("complete")
