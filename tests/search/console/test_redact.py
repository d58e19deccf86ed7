"""No secret leaves, in no form, by no way; and what comes from a file or a record is data, however odd."""

import io
import itertools
import json
import os
import pickle
import subprocess
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from safetensors.torch import save

from denoise.config import catalog
from denoise.config.compose import compose
from denoise.errors import UserError
from search.__main__ import main
from search.cli import mlflow_server
from search.confirmation.stored import from_json
from search.console import printed_commands
from search.console.console import Out
from search.console.redact import hide
from search.report import findings
from search.report.leaderboard import best_yaml
from search.storages.database import open_study
from search.tracking.record import Record, check
from search.tracking.tracker import Tracker, open_tracker
from search.workers.pool import WorkerPool
from tests.tiny import TINY

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.faults]
SECRET = "hun7er2canary"
FORMS = [  # every form in which an address or a setting has a password
    *(
        "http://me:{}@host:5000/x",
        "http://:{}@host",
        "http://{}@host",
        "https://me:{}@[::1]:5000",
        "http://me:a@{}@host",
    ),
    *("postgresql://me:{}@host/base", "postgresql+psycopg2://me:a/{}@host/base", "postgresql://me:a/b@{}@host/base"),
    *("postgresql://me:1234/{}@host/base", "postgresql://me:a {}@host/base", "postgresql://me:{}%40@host/base"),
    *("postgresql://host/base?password={}", "postgresql://host/base?user=me&password={}&a=b", "mysql://h/b?pwd={}#x"),
    *("postgresql://host/base?sslpassword={}", "postgresql://host/base?p%61ssword={}", "s3://b/a?api_key={}"),
    *(
        "host=h password={} port=5",
        "password='a {} b'",
        r"x='password=\'a {} b\''",
        "MLFLOW_TRACKING_PASSWORD={}",
        "MLFLOW_TRACKING_TOKEN={}",
    ),
]
AROUND = [
    "{}",
    "tracking.uri={}",
    "tracking.uri='{}'",
    "ConnectionError: ({}): refused; see me@host",
    '["store=a", "b={}"]',
]
TEXTS = [around.format(form.format(SECRET)) for form, around in itertools.product(FORMS, AROUND)]
HARMLESS = [
    *("http://127.0.0.1:5000/#/experiments/1?a=b", "sqlite:////tmp/a@b/mlflow.db", "s3://bucket/a@b", "file:///a:b@c"),
    *("activation@parts.residual.activation=gelu", "http://host:5000 activation@parts.x=relu", "compass=1 tokens=2"),
    "store=nonsense://x: cannot be used (it's odd); see activation@parts.x",
]


@pytest.mark.parametrize("text", TEXTS)
def test_no_form_of_a_password_is_shown(text: str) -> None:
    assert SECRET not in hide(text) and "***" in hide(text)
    assert not text.startswith("[") or len(json.loads(hide(text))) == 2, "JSON stays JSON"


@given(st.text(st.characters(exclude_characters=' "\n\t\r', exclude_categories=["Z", "C"]), min_size=1, max_size=30))
def test_a_password_of_any_letters_is_hidden(secret: str) -> None:
    for text in (f"http://me:{secret}{SECRET}@host", f"postgresql://h/b?password={secret.replace('&', '')}{SECRET}"):
        assert SECRET not in hide(text)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_password_stays(text: str) -> None:
    assert hide(text) == text


def test_no_password_reaches_a_store(tmp_path: Path) -> None:
    """By tags, params, names and files of a run, and by best.yaml."""
    tracker = open_tracker(None, "denoise-search", tmp_path / "runs")
    named = {f"a{number}": text for number, text in enumerate(TEXTS[:99])}
    typed = json.dumps([text for text in TEXTS if text.startswith("tracking.uri=")])
    run = tracker.start(TEXTS[0], {"overrides": typed, "role": "trial"}, named)
    run.flush(named)
    files = {name: "\n".join(TEXTS).encode() for name in ("config.yaml", "leaderboard.json", "leaderboard.txt")}
    run.artifacts(files)
    (tmp_path / "best.yaml").write_bytes(best_yaml([f"data.root={FORMS[0].format(SECRET)}"], "best", "0"))
    run.end("failed", {"failure": TEXTS[0]})
    leaked = [path for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert not leaked and len(list(tmp_path.rglob("*.*"))) > 4


def test_no_password_reaches_the_terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    shown = Out(file=io.StringIO(), width=200)
    table = Table("a")
    for text in TEXTS:
        table.add_row(text)
        shown.print(text, soft_wrap=True)
    shown.print(table)
    assert SECRET not in shown.file.getvalue()  # type: ignore[attr-defined]
    few = [text for text in TEXTS if not text.startswith("tracking.uri=")][::9]  # those address a server
    ways = [*([text] for text in few), *([f"nonsense={text}"] for text in few)]
    ways += [["--run", TEXTS[0]], ["a.b=1", TEXTS[1]]]
    for way in ways:
        assert main(["best", f"store={tmp_path / 'none'}", *way]) == 2
    torn = "postgresql://me:{0}@{1}@127.0.0.1:1/base", "postgresql://me:{0}/{1}@127.0.0.1:1/base"
    parts = SECRET[:3], SECRET[3:]
    for storage in (
        f"nonsense://me:a@{SECRET}@host/base",
        f"postgresql://:{SECRET}@host:port/base?password={SECRET}",
        *(address.format(*parts) for address in torn),
    ):
        with pytest.raises(UserError, match="cannot be used") as refused:
            open_study(storage, "search", 1)
        assert not any(part in str(refused.value) for part in (SECRET, *parts)), refused.value
    captured = capsys.readouterr()
    assert SECRET not in captured.out + captured.err and captured.err.count("\n") == len(ways)
    printed_commands.remember([f"tracking.uri={FORMS[0].format(SECRET)}"], [])
    assert SECRET not in printed_commands.make("ui")


class Started:
    """A process that was asked for."""

    seen: ClassVar[list[tuple[list[str], dict[str, str]]]] = []
    stdout = ()
    stdin = None
    pid = 0

    def __init__(self, arguments: list[str], env: dict[str, str], **more: Any) -> None:
        self.seen.append((arguments, env))

    def wait(self, *args: Any) -> int:
        return 0


def test_no_password_stands_in_the_arguments_of_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", Started)
    monkeypatch.setattr(Started, "seen", [])
    typed = ["search", *(f"search.storage={form.format(SECRET)}" for form in FORMS)]
    pool = WorkerPool(typed)
    pool.resize(1)
    monkeypatch.setattr(mlflow_server, "_end", lambda process: None)
    monkeypatch.setattr(mlflow_server.signal, "signal", lambda *given: None)
    mlflow_server.serve(FORMS[5].format(SECRET), tmp_path, 5000)
    (worker, its_environment), (served, environment) = Started.seen
    assert SECRET not in " ".join([*worker, *served])
    monkeypatch.setattr(os, "environ", its_environment)
    assert printed_commands.handed_over(worker[3:]) == [*typed, "--worker"], "and yet it has what was typed"
    assert printed_commands.handed_over(worker[3:]) == worker[3:], "only once"
    assert environment["MLFLOW_BACKEND_STORE_URI"] == FORMS[5].format(SECRET)


HEAD = "# f\n# s\n_target_: torch.nn.Softplus\n"
LOOKED_UP = "${oc.env:CANARY}"
FILES = {  # group -> a file that is good but for what is put at X
    "activation": HEAD + "beta: X\nspace: {}\n",
    "activation ": HEAD + "beta: 1.0\nspace: {}\nexpects: {data.batch_size: {low: 16, why: 'X'}}\n",
    "trainer": "defaults: [default, _self_]\naccelerator: X\n",
    "experiment": "# @package _global_\ndata: {root: X}\n",
    "optimizer": "# f\n# s\ndefaults: ['X']\n_target_: torch.optim.SGD\n",
    "": "defaults: [train, _self_]\nstore: X\n",
    " ": "defaults: [train, deep/in/it]\n",
}
ODD = {  # what is put there
    "an environment": LOOKED_UP,
    "a decoded one": "a${oc.decode:${oc.env:CANARY}}",
    "one by a name": "${${seed}:CANARY}",
    "hydra's": "${hydra:runtime.cwd}",
    "a recursive anchor": "&a [*a]",
    "a bomb": "[&a [1,1,1,1,1,1,1,1,1], &b [*a,*a,*a,*a,*a,*a,*a,*a], [*b,*b,*b,*b,*b,*b,*b,*b]]",
    "a key twice": "{a: 1, a: 2}",
    "3,000 deep": "[" * 3000 + "]" * 3000,
    "a long number": "9" * 5000,
    "code": "!!python/object/apply:os.getcwd []",
}


@pytest.mark.parametrize("odd", ODD)
def test_a_file_is_data(
    odd: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In each kind of file: one line, and nothing of the environment."""
    monkeypatch.setenv("CANARY", SECRET)
    for number, (group, text) in enumerate(FILES.items()):
        home, value = tmp_path / str(number), ODD[odd]
        if "${" not in value and (group == " " or "'X'" in text):  # a file that Hydra alone finds; text
            continue
        quoted = f"'{value}'" if value.startswith(("$", "a$")) and "'X'" not in text else value
        (path := home / group.strip() / f"mine{number}.yaml").parent.mkdir(parents=True)
        path.write_text(text.replace("X", quoted))
        (home / "deep" / "in").mkdir(parents=True)
        (home / "deep" / "in" / "it.yaml").write_text(f"# @package _global_\nstore: {quoted}\n")
        arguments = ["train", "--config-dir", str(home), *TINY, "trainer.max_steps=1", "trainer.val_every=1"]
        arguments += [f"{group.strip()}=mine{number}"] if group.strip() else ["--config-name", f"mine{number}"]
        if group.strip() == "experiment":
            arguments = [text.replace("experiment", "+experiment") for text in arguments]
        assert main(arguments) == 2, f"{group}: {capsys.readouterr()}"
        err = capsys.readouterr().err
        assert len(err.splitlines()) == 1 and SECRET not in err and len(err) < 1000, err
        catalog._folders[:] = catalog._folders[-1:]


def test_what_is_typed_may_be_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "/a/b")
    for folder in (None, Path(__file__).parents[3] / "examples" / "own_component"):
        if folder is not None:
            catalog.add_folder(folder)
        assert compose(["data=fashion_mnist", f"data.root={LOOKED_UP}/c"]).cfg.data.root == "/a/b/c"
    for text in (LOOKED_UP, "${oc.decode:1}", "${hydra:x}", "${${seed}:x}"):
        with pytest.raises(UserError, match="looked up in no file and no record"):
            check(Record(0, "run", "complete", 1, ["data=fashion_mnist", f"data.root={text}"]))
    assert check(Record(0, "run", "complete", 1, ["optimizer.lr=${dropout}"]))


@pytest.mark.parametrize(
    "value", ["9" * 5000, "[" * 500 + "]" * 500, "[" * 3000, "x" * 100_000, "[" + "1, " * 30_000 + "1]"]
)
@pytest.mark.parametrize("key", ["optimizer.lr", "activation", "search.enqueue"])
def test_a_long_input_is_cut_in_one_line(key: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search" if key.startswith("search") else "train", f"{key}={value}"]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and key in err and len(err) < 1500


STEERS = "\x1b]0;taken\x07\x1b[2J\x9b31m\r\u202e"


@pytest.fixture
def books(tmp_path: Path) -> tuple[list[str], Tracker, Any, Any]:
    """A search with one trial, as an MLflow server may have it: where, the tracker, the parent run and the trial's."""
    tracker = open_tracker(None, "denoise-search", tmp_path / "runs")
    parent = tracker.start(f"search{STEERS}\nallow: [os.]", {"role": "search", "baseline": "[]"}, {})
    tags = {"role": "trial", "trial": "0", "overrides": json.dumps([*TINY]), "failure_kind": STEERS, "machine": "{}"}
    run = tracker.start(f"trial{STEERS}", tags, {}, parent.run_id)
    run.metrics(1, {"val/loss": 0.5})
    run.end("complete", {"step": "1", "failure": STEERS})
    return [f"store={tmp_path / 'runs'}"], tracker, parent, run


@pytest.mark.parametrize(
    ("verb", "tag", "values"),
    [
        ("report", "outcome", ["great", "", "[]"]),
        ("report", "trial", ["one", "-1", "9" * 5000, "1.5", ""]),
        ("best", "step", ["many", "", "1e3", "\u0663"]),
        ("report", "baseline", ["{", "{}", "3", "[[1]]", "[" * 3000, "null"]),
        ("report", "cost", ["os.system", ""]),
        ("reproduce", "machine", ["{", "[]", "[" * 3000]),
        ("sample", "overrides", ["[" * 3000, json.dumps(["a=" + "[" * 3000]), json.dumps([LOOKED_UP]), "[[]]"]),
    ],
)
def test_a_tag_that_is_not_as_it_must_be_is_refused_in_one_line(
    verb: str,
    tag: str,
    values: list[str],
    books: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where, tracker, parent, run = books
    monkeypatch.setenv("CANARY", SECRET)
    monkeypatch.setattr("search.trial.reproduce.config_sha256", lambda composed: None)
    monkeypatch.setattr("search.trial.reproduce.perform", lambda *given, **more: pytest.fail("it was trained"))
    of = parent if tag in ("baseline", "cost") else run
    for value in values:
        tracker.client.set_tag(of.run_id, tag, value)
        assert main([verb, *where, *(["--run", run.run_id] if verb != "report" else [])]) == 2
        err = capsys.readouterr().err
        assert len(err.splitlines()) == 1 and f"RUN={of.run_id}" in err and SECRET not in err and len(err) < 1000, err


def test_no_text_of_a_record_steers_the_terminal(
    books: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    where, tracker, _, run = books
    tracker.client.set_tag(run.run_id, "overrides", json.dumps([*TINY, f"data.root='{STEERS}'"]))
    for verb in ("report", "best"):
        assert main([verb, *where]) == 0
    tracker.client.set_tag(run.run_id, "outcome", "failed")
    assert main(["report", *where]) == 0
    assert main(["sample", *where, "--run", run.run_id]) == 2
    captured = capsys.readouterr()
    content = (tmp_path / "runs" / "best.yaml").read_text()
    assert "taken" in captured.out and "\nallow" not in content
    steering = {letter for letter in STEERS if not letter.isprintable()}
    assert len(steering) == 5 and not steering & {*captured.out, *captured.err, *content.partition("defaults")[0]}


GOOD = save({"a": torch.zeros(3)})
WEIGHTS = {
    "a pickle": pickle.dumps({"a": 1}),
    "torn": GOOD[:-4],
    "an absurd header": (2**60).to_bytes(8, "little") + GOOD[8:],
    "a header of garbage": (20).to_bytes(8, "little") + b"{" * 20,
    "empty": b"",
    "other weights": GOOD,
}


def test_a_result_that_is_no_json_is_refused() -> None:
    for text in ("[" * 3000, "{", "[]", "9" * 5000):
        for read in (from_json, findings.read):
            with pytest.raises(UserError):
                read(text.encode())
        assert Record(0, "run", "complete", 1, [], tags={"weights_at": text}).weights_at == {}


def test_weights_that_are_none_are_refused_in_one_line(books: Any, capsys: pytest.CaptureFixture[str]) -> None:
    where, _, _, run = books
    for name, content in WEIGHTS.items():
        run.artifacts({"weights.safetensors": content}, "weights")
        assert main(["sample", *where, "--run", run.run_id]) == 2, name
        err = capsys.readouterr().err
        assert len(err.splitlines()) == 1 and "weights" in err, f"{name}: {err}"
