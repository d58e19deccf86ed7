"""What each verb does, and what a person sees of it."""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table
from rich.text import Text

from denoise.config import Composed, compose, notes, parse
from denoise.refusal import Refusal
from search import pretrained, server
from search import report as board
from search.record import Record, check, check_known
from search.record import best as best_of
from search.tracking import Tracker, check_store, open_tracker, resolve_uri


class Out(Console):
    """A console whose reader may leave early."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


console = Out(highlight=False, markup=False, width=None if sys.stdout.isatty() else 140)


def search(options: argparse.Namespace) -> int:
    """Search; at the end show the leaderboard and what to type next."""
    from search import answer as answering
    from search import study
    from search.crew import Crew
    from search.display import Display

    _show_config(options, "search")
    prepared = study.prepare(options.overrides)
    with Crew(options.typed, 0 if options.beside else prepared.division.workers - 1) as crew:
        import mlflow.tracking  # noqa: F401  # seconds, as torch's own: not what a search costs

        if options.beside:
            from search.crew import worker

            return worker.work(prepared)
        began = time.monotonic()
        stores = study.open_stores(prepared)
        _say([*prepared.notes, *notes(prepared.composed, prepared.space.options)])
        with Display(prepared.name, prepared.total, console=console) as display:
            answer = study.run(prepared, *stores, display, began, crew)
    findings = answer.findings
    if prepared.mode.confounded:  # what each choice came to is not what was asked; make report shows it
        findings = replace(findings, verdicts=[], importance=None, rungs=[])
    shown = (answer.records, prepared.baseline, prepared.name, answer.confirmation, findings, prepared.mode.cost)
    answering.show(console, *shown)
    console.print("\nnext:  make ui          compare the trials in MLflow")
    console.print("       make best        the best config as a command, and best.yaml")
    console.print("       make reproduce   train the best again: the same number, bit for bit")
    console.print("       make report      all of this again, and what each choice came to")
    return 0 if answer.best is not None else 1


def train(options: argparse.Namespace) -> int:
    """Train one config, tracked like a trial."""
    from denoise import train as training
    from search.display import Display
    from search.trial import open_run, perform

    composed = _compose(options)
    cfg = composed.cfg
    module = training.prepare(pretrained.resolve(cfg))
    tracker = open_tracker(cfg.tracking.uri, cfg.tracking.experiment, Path(cfg.store).expanduser())
    run = open_run(tracker, composed, options.overrides, "train", "train")
    _say(notes(composed))
    for report in module.start:
        _show_start(report.summary, report.left)
    with Display("training", 1, console=console) as display:
        display.trial_starts(None, " ".join(options.overrides) or "the default config")
        done = perform(composed, run, display)
        rate = done.result.metrics.get("cost/samples_per_second") if done.result else None
        display.trial_ends(done.outcome, done.step, done.value, rate, done.failure)
    if done.outcome == "failed":
        print(f"failed: {done.failure}", file=sys.stderr)
        return 1
    assert done.result is not None
    from safetensors.torch import save

    weights = {name: tensor.cpu().contiguous() for name, tensor in done.result.weights.items()}
    run.artifacts({"weights.safetensors": save(weights)}, "weights")
    console.print(f"val/loss {done.value:.6f} after {done.step} steps, weights {done.result.weights_sha256[:16]}")
    console.print(f"run {run.run_id}:  make ui   make sample RUN={run.run_id}   make reproduce RUN={run.run_id}")
    return 0


def ui(options: argparse.Namespace) -> int:
    """Serve MLflow on 127.0.0.1 until it is interrupted."""
    port, overrides = 5000, []
    for text in options.overrides:
        if text.startswith("port="):
            port = server.read_port(text)
        else:
            overrides.append(text)
    cfg = compose(overrides).cfg
    store = Path(cfg.store).expanduser()
    uri = resolve_uri(cfg.tracking.uri, store)
    if uri.startswith("http"):
        console.print(f"the trials are tracked at {uri}: open it in a browser")
        return 0
    experiment = open_tracker(uri, cfg.tracking.experiment, store).experiment_id
    port = server.free_port(port)
    console.print(
        f"MLflow: http://127.0.0.1:{port}/#/experiments/{experiment}/runs   (ready in some seconds; Ctrl-C ends it)"
    )
    sys.stdout.flush()
    return server.serve(uri, (store / "artifacts").resolve(), port)


def best(options: argparse.Namespace) -> int:
    """Print the best trial's overrides as a command and write best.yaml into the store."""
    composed = compose(options.overrides)
    tracker = _tracker(composed, must_exist=True)
    chosen, parent = _chosen(tracker, options.run)
    store = Path(composed.cfg.store).expanduser()
    check_store(store)
    path = store / "best.yaml"
    path.write_bytes(board.best_yaml(chosen, parent))
    where = f"trial {chosen.number} of {parent}" if chosen.number is not None else parent
    value = "-" if chosen.value is None else f"{chosen.value:.6f}"
    print(f"# {where}: val/loss {value}, run {chosen.run_id}")
    own = [word for folder in options.config_dir for word in ("--config-dir", folder)]
    print(board.command([*own, *chosen.overrides]))
    print(
        f"# the same as a config: {path}; {board.command([*own, '--config-dir', str(store), '--config-name', 'best'])}"
    )
    return 0


def reproduce(options: argparse.Namespace) -> int:
    """Train a run again and compare; 1 where they differ on the same machine."""
    from search.display import Display
    from search.reproduce import reproduce as again

    composed = compose(options.overrides)
    tracker = _tracker(composed, must_exist=True)
    chosen, _ = _chosen(tracker, options.run)
    with Display(f"again: run {chosen.run_id}", 1, console=console) as display:
        display.trial_starts(chosen.number, "")
        found = again(tracker, chosen, display)
    table = Table("", "recorded", "new", "", title=f"run {chosen.run_id}", title_justify="left", pad_edge=False)
    for name, old, new in found.rows:
        table.add_row(name, old, new, "same" if old == new else Text("differs", "bold red"))
    console.print(table)
    if found.same:
        console.print("Reproduced, bit for bit.")
        return 0
    if not found.same_machine:
        console.print(f"Differs, on another machine: {found.other_machine}.")
        return 0
    print("differs on the same machine: this is a bug, or the code has changed since", file=sys.stderr)
    return 1


def report(options: argparse.Namespace) -> int:
    """Show the leaderboard of the latest search, or of the search RUN."""
    import json

    from search import answer as answering
    from search import confirm

    composed = compose(options.overrides)
    tracker = _tracker(composed, must_exist=True)
    parent = _parent(tracker, options.run)
    records, baseline = tracker.records(parent.info.run_id), json.loads(parent.data.tags["baseline"])
    found, findings = confirm.load(tracker, parent.info.run_id), answering.findings(tracker, parent.info.run_id)
    answering.show(console, records, baseline, parent.info.run_name, found, findings, parent.data.tags.get("cost"))
    return 0


def sample(options: argparse.Namespace) -> int:
    """Draw a grid of images from a run's weights into the store."""
    from denoise import train as training

    composed = compose([text for text in options.overrides if not text.startswith("solver")])
    tracker = _tracker(composed, must_exist=True)
    chosen, _ = _chosen(tracker, options.run)
    solver = [text for text in options.overrides if text.startswith(("solver", "seed"))]
    cfg = compose([*check_known(chosen).overrides, *solver]).cfg
    store = Path(composed.cfg.store).expanduser()
    with tempfile.TemporaryDirectory() as temporary:
        weights = tracker.artifact(chosen.run_id, "weights/weights.safetensors", Path(temporary))
        png = training.sample(cfg, weights, cfg.seed)
    check_store(store)
    path = store / f"samples-{chosen.run_id[:8]}.png"
    path.write_bytes(png)
    console.print(f"{cfg.solver.images} samples of run {chosen.run_id}: {path}")
    return 0


def inspect(options: argparse.Namespace) -> int:
    """Show signal and gradient through depth at initialization, without training."""
    from denoise import inspection
    from search import health

    overrides = list(options.overrides)
    given = any(parse(text).key_or_group == "zero_output" for text in overrides)
    composed = _compose(argparse.Namespace(**{**vars(options), "overrides": overrides + ["zero_output=false"][given:]}))
    found = inspection.inspect(composed.cfg)
    store = Path(composed.cfg.store).expanduser()
    check_store(store)
    kinds = ("activation", "normalization", "initializer")
    path = store / f"inspect-{'-'.join(str(composed.choices[kind]) for kind in kinds)}.svg"
    title = ", ".join(f"{kind} {composed.choices[kind]}" for kind in kinds)
    path.write_bytes(found.picture(f"At initialization: {composed.choices['model']}, {title}"))
    console.print(health.layers(found.network, f"{composed.choices['model']} at initialization: {title}"))
    console.print(health.layers(found.stack, f"{len(found.stack)} plain layers of the same, without skips", every=7))
    for line in health.verdict(found):
        console.print(line)
    if not given:
        console.print("Looked at with zero_output=false; a training starts with zero_output=true, its branches closed.")
    console.print(f"picture: {path}")
    return 0


def catalog(options: argparse.Namespace) -> int:
    """Print the catalogue, write the README's table and the pages; with --check only tell whether they are fresh."""
    from search.pages import readme

    for text in options.overrides:
        raise Refusal(f"{text}: catalog takes no overrides")
    return readme.refresh(check=options.check)


def _compose(options: argparse.Namespace) -> Composed:
    root = options.config_name or "train"
    _show_config(options, root)
    return compose(options.overrides, root)


def _say(lines: Sequence[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)


def _show_start(summary: str, left: Sequence[tuple[str, str]], most: int = 12) -> None:
    console.print(summary, soft_wrap=True, markup=False)
    for name, reason in left[:most]:
        console.print(f"  {name}: {reason}", soft_wrap=True, markup=False)
    if len(left) > most:
        console.print(f"  and {len(left) - most} more: the run's artifact initializer.txt lists them all")


def _show_config(options: argparse.Namespace, root: str) -> None:
    if options.cfg:
        print(OmegaConf.to_yaml(compose(options.overrides, root).cfg))
        raise SystemExit(0)


def _tracker(composed: Composed, must_exist: bool = False) -> Tracker:
    cfg = composed.cfg
    store = Path(cfg.store).expanduser()
    uri = resolve_uri(cfg.tracking.uri, store)
    if must_exist and uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise Refusal(f"store={cfg.store}: no search here yet; start one with make search, or give store=FOLDER")
    return Tracker(uri, cfg.tracking.experiment, store)


def _parent(tracker: Tracker, run_id: str | None):  # type: ignore[no-untyped-def]
    searches = tracker.searches()
    if run_id is not None:
        searches = [run for run in searches if run.info.run_id == run_id]
        if not searches:
            raise Refusal(f"RUN={run_id}: no such search in {tracker.uri}; make ui shows them")
    if not searches:
        raise Refusal(f"no search in {tracker.uri} yet; start one with make search")
    return searches[0]


def _chosen(tracker: Tracker, run_id: str | None) -> tuple[Record, str]:
    """The run that is meant: RUN, or the best trial of the latest search."""
    if run_id is not None:
        return tracker.record(run_id), f"run {run_id}"
    parent = _parent(tracker, None)
    found = best_of(tracker.records(parent.info.run_id))
    if found is not None and (best := parent.data.tags.get("best")):  # what was confirmed on fresh seeds
        found = tracker.record(best)
    if found is None:
        raise Refusal(f"search {parent.info.run_name}: no trial came to its end yet; make search goes on with it")
    return check(found), parent.info.run_name
