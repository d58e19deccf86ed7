"""What each verb does, and what the user sees of it."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from denoise.config.compose import Composed, compose, notes
from denoise.config.overrides import Overrides
from denoise.errors import UserError
from search.cli import best_file, choose_run, help, mlflow_server
from search.cli.list_searches import compare as compare
from search.cli.list_searches import remove as remove
from search.cli.list_searches import searches as searches
from search.cli.list_searches import trials as trials
from search.cli.waiting import plan, say, waits
from search.console.console import console
from search.console.mlflow_pages import MODE
from search.console.printed_commands import WHERE, listed, make, named
from search.console.redact import hide, line, printable
from search.report import leaderboard
from search.runtime.startup import LEARNS, TRACKS, load
from search.storages.store_folder import store_of
from search.tracking import artifacts, read_only, saved_view
from search.tracking.address import resolve_uri
from search.tracking.record import check_known
from search.tracking.tags import Tag
from search.tracking.tracker import open_tracker
from search.trial import pretrained
from search.workers import shared


def search(options: argparse.Namespace) -> int:
    """Search; at the end show the leaderboard and what to type next."""
    from search.space.search_config import read

    help.shown(options, "search")
    asked, _ = read(options.overrides)
    resolve_uri(asked.cfg.tracking.uri, store_of(asked.cfg))  # refused before anything is loaded
    if not options.worker:
        console.print(plan(asked), soft_wrap=True)
    from search.workers.allocation import division, likely_several
    from search.workers.pool import WorkerPool

    with WorkerPool(options.typed) as pool:
        with waits(console):
            if not options.worker:  # at once: what a worker imports takes seconds too
                pool.resize(int(likely_several(asked.cfg)))
                load("torch")
                pool.resize(division(asked.cfg).workers - 1)
            load("torch", *LEARNS, *TRACKS, "search.study.loop", "search.report.forms.terminal")
            from search.report import summary
            from search.report.forms import terminal
            from search.report.progress import Display
            from search.study import loop

            prepared = loop.prepare(options.overrides)
        if options.worker:
            from search.cli import worker

            return worker.work(prepared)
        began = time.monotonic()
        stores = loop.open_stores(prepared)
        if prepared.settings.shared:
            shared.ask(stores[0], options.overrides)
        say([*prepared.notes, *notes(prepared.composed, prepared.space.options)])
        try:
            with Display(prepared.name, prepared.total, console=console) as display:
                answer = loop.run(prepared, *stores, display, began, pool)
        except KeyboardInterrupt:
            summary.stopped(console, stores[1], prepared.baseline, prepared.name, prepared.total)
            raise
    after = {"ui": "compare the trials in MLflow", "best": "the best config as a command, and best.yaml"}
    after |= {"reproduce": "train the best again: the same number, bit for bit"}
    after |= {"report": "all of this again and as a page to hand on"}
    terminal.show(console, answer.report, ["", "next:", *listed(after)])
    return 0 if answer.best is not None else 1


def train(options: argparse.Namespace) -> int:
    """Train one config, tracked like a trial."""
    composed = _compose(options)
    console.print(plan(composed), soft_wrap=True)
    with waits(console):
        load(*LEARNS, *TRACKS)
        from denoise.training import train as training
        from search.report.progress import Display
        from search.trial.run import open_run, perform, run_name

        composed, overrides = training.settle(composed, options.overrides, options.config_name or "train")
    module = training.prepare(pretrained.resolve(composed.cfg))
    tracker = open_tracker(composed.cfg.tracking.uri, composed.cfg.tracking.experiment, store_of(composed.cfg))
    say([*training.data_notes(composed.cfg), *notes(composed)])
    for report in module.start:
        for text in leaderboard.start(report.summary, report.left):
            console.print(text, soft_wrap=True)
    own = list(Overrides(overrides).without(WHERE))
    run = open_run(tracker, composed, own, "train", run_name("train", " ".join(own)))
    with Display("training", 1, console=console) as display:
        display.trial_starts(None, " ".join(options.overrides) or "the default config")
        done = perform(composed, run, display)
        display.trial_ends(done.outcome, done.step, done.value, done.samples_per_second, done.failure)
    if done.outcome == "failed":
        print(line(f"failed: {done.failure}"), file=sys.stderr)
        return 1
    assert done.result is not None
    from safetensors.torch import save

    weights = {name: tensor.cpu().contiguous() for name, tensor in done.result.weights.items()}
    run.artifacts({"weights.safetensors": save(weights)}, "weights")
    console.print(f"val/loss {done.value:.6f} after {done.step} steps, weights {done.result.weights_sha256[:16]}")
    after = {"ui": "compare the runs in MLflow"}
    after |= {"sample": "draw images from its weights"} if done.result.samples else {}
    after |= {"reproduce": "train it again: the same number, bit for bit"}
    console.print(f"run {run.run_id}", *listed(after, run.run_id), sep="\n", soft_wrap=True)
    return 0


def ui(options: argparse.Namespace) -> int:
    """Serve MLflow on 127.0.0.1 until it is interrupted."""
    ports = [text for text in options.overrides if text.startswith("port=")]
    port = mlflow_server.read_port(ports[-1]) if ports else 5000
    cfg = compose([text for text in options.overrides if text not in ports]).cfg
    store = store_of(cfg)
    uri = resolve_uri(cfg.tracking.uri, store)
    if uri.startswith("http"):
        place = f"{hide(uri.rstrip('/'))}/#/experiments?{MODE}"
        console.print(f"the trials are tracked at {place}: open it in a browser", soft_wrap=True)
        return 0
    saved_view.write(tracker := open_tracker(uri, cfg.tracking.experiment, store))
    port = mlflow_server.free_port(port)
    console.print(*saved_view.addresses(f"http://127.0.0.1:{port}", tracker), sep="\n", soft_wrap=True)
    console.print("ready in some seconds; Ctrl-C ends it")
    sys.stdout.flush()
    return mlflow_server.serve(uri, store.resolve(), port)


def best(options: argparse.Namespace) -> int:
    """Print the best trial's overrides as a command and write best.yaml into the store."""
    composed = compose(options.overrides)
    with waits(console):
        tracker = choose_run.tracker(composed)
        found = choose_run.chosen(tracker, options.run)
        from search.tracking import weights
        from search.trial.shortest import shortest
    chosen, store = found.record, store_of(composed.cfg)
    without = choose_run.of_machine(tracker, chosen)
    config = [text for text in found.overrides if text not in without]
    unwritten = read_only.why_not(store)
    says = [
        f"# {line(found.says)}",
        f"# its weights: run {chosen.run_id}{', on this machine with ' if without else ''}{' '.join(without)}",
        make("train", [*(["store=FOLDER"] if unwritten else []), *(config if options.long else shortest(config))]),
    ]
    if tracker.has(chosen.run_id, weights.FILE):
        says += [f'# in Python: denoise.load("{chosen.run_id}")']
    if unwritten:
        says += [f"# {unwritten}: best.yaml is not written"]
    else:
        path = store / "best.yaml"
        path.write_bytes(leaderboard.best_yaml(config, found.says, chosen.run_id))
        again = make("train", ["--config-dir", str(store), "--config-name", "best"])
        says += [f"# the same as a config, whole: {path}; {again}", *best_file.in_a_script(config, path)]
    for text in says:
        print(printable(hide(text)))
    return 0


def reproduce(options: argparse.Namespace) -> int:
    """Train a run again and compare; 1 where they differ on the same machine."""
    composed = compose(options.overrides)
    with waits(console):
        tracker = choose_run.tracker(composed)
        chosen = choose_run.chosen(tracker, options.run).record
        load(*LEARNS)
        from search.report.progress import Display
        from search.trial import reproduce as reproducing

    with Display(f"again: run {chosen.run_id}", 1, console=console) as display:
        if unwritten := read_only.why_not(store_of(composed.cfg)):
            display.note(f"{unwritten}: this training is not recorded")
        display.trial_starts(chosen.number, "")
        found = reproducing.reproduce(tracker, chosen, display)
    console.print(reproducing.table(found, f"run {chosen.run_id}"))
    if found.same:
        console.print("Reproduced, bit for bit." + found.put_back * " The run has its weights again.")
        return 0
    if not found.same_machine:
        console.print(f"Differs, on another machine: {found.other_machine}.")
        return 0
    why = (
        "the code in src/denoise is not that of then" if found.other_code else "this is a bug, or a library has changed"
    )
    print(f"differs on the same machine: {why}", file=sys.stderr)
    return 1


def report(options: argparse.Namespace) -> int:
    """Show the report of the latest search, or of the search RUN, and write it as a page into the store."""
    composed = compose(options.overrides)
    with waits(console):
        tracker = choose_run.tracker(composed)
        from search.confirmation import sample_quality, stored
        from search.report import report as report_of
        from search.report.forms import page, terminal
        from search.study import reconcile

    parent = choose_run.search_of(tracker, options.run)
    search_id, store = parent.info.run_id, store_of(composed.cfg)
    say(reconcile.missed(tracker, search_id, tracker.records(search_id)))
    found = stored.stored(tracker, search_id)
    if found is None and Tag.CONFIRMED in parent.data.tags:
        console.print(f"its confirmation is gone, torn or of another version; the same {named('search')} makes it anew")
    if found is not None and (gone := stored.missing(tracker, search_id, found.arms)):
        said = f"deleted in MLflow: {len(gone)} of its trainings on fresh seeds"
        say([f"{said}; the same {named('search')} trains them again"])
    report = report_of.read(tracker, search_id, found, sample_quality.stored(tracker, search_id))
    try:
        place = f"the whole report as a page: {read_only.put(store, page.NAME, page.render(report))}"
    except UserError as error:  # neither there nor here: what is shown is shown
        place = f"{page.NAME} is not written: {error}"
    after = ["", *(command for command, _ in report.commands)]
    if report.interactive:
        after.append(f"pictures to hover over: {artifacts.place(tracker.files, search_id, report_of.INTERACTIVE)}")
    terminal.show(console, report, [*after, place])
    return 0


def sample(options: argparse.Namespace) -> int:
    """Draw a grid of images from a run's weights into the store; the current folder where that cannot be written."""
    composed = compose([text for text in options.overrides if not text.startswith("solver")])
    with waits(console):
        tracker = choose_run.tracker(composed)
        chosen = choose_run.chosen(tracker, options.run).record
        load(*LEARNS)
        from denoise.training import train as training
        from search.tracking import weights

    solver = [text for text in options.overrides if text.startswith(("solver", "seed"))]
    cfg = compose([*check_known(chosen).overrides, *solver]).cfg
    store = training.keep_in(store_of(composed.cfg))
    with tempfile.TemporaryDirectory() as temporary:
        png = training.sample(cfg, weights.fetch(tracker, chosen, Path(temporary)), cfg.seed)
    path = read_only.put(store, f"samples-{chosen.run_id[:8]}.png", png)
    console.print(f"{cfg.solver.images} samples of run {chosen.run_id}: {path}")
    return 0


def inspect(options: argparse.Namespace) -> int:
    """Show signal and gradient through depth at initialization, without training."""
    options.overrides = (typed := Overrides(options.overrides)).over(["zero_output=false"])
    composed = _compose(options)
    with waits(console):
        load(*LEARNS)
        from denoise.evaluation import inspection
        from search.report import network_health

    found = inspection.inspect(composed.cfg)
    store = store_of(composed.cfg)
    chosen = {kind: str(composed.choices[kind]) for kind in ("activation", "normalization", "initializer")}
    title = ", ".join(f"{kind} {option}" for kind, option in chosen.items())
    content = found.picture(f"At initialization: {composed.choices['model']}, {title}")
    path = read_only.put(store, f"inspect-{'-'.join(chosen.values())}.svg", content)
    console.print(network_health.layers(found.network, f"{composed.choices['model']} at initialization: {title}"))
    stack = f"{len(found.stack)} plain layers of the same, without skips"
    console.print(network_health.layers(found.stack, stack, every=7))
    for each in network_health.verdict(found):
        console.print(each)
    if options.overrides != typed:
        console.print("Looked at with zero_output=false; a training starts with zero_output=true, its branches closed.")
    console.print(f"picture: {path}")
    return 0


def sites(options: argparse.Namespace) -> int:
    """List every site of a config's network: what stands there, where, and whether options reach it."""
    composed = _compose(options)
    with waits(console):
        load("torch")
        from denoise.evaluation import reach

    for text in reach.listing(composed.cfg):
        console.print(printable(text), soft_wrap=True, markup=False, highlight=False)
    return 0


def catalog(options: argparse.Namespace) -> int:
    """Print the catalogue, write its pages; with --check only tell whether they are fresh."""
    from search.catalog_pages import pages

    if options.overrides:
        raise UserError(f"{options.overrides[0]}: catalog takes no overrides")
    return pages.refresh(check=options.check)


def _compose(options: argparse.Namespace) -> Composed:
    root = options.config_name or "train"
    help.shown(options, root)
    return compose(options.overrides, root)
