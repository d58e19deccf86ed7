"""A component of one's own, in a folder of its own: the worked example runs through every verb, and what is refused."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from denoise.config import catalog, trust
from denoise.config.compose import raw_compose
from denoise.errors import UserError
from search.__main__ import main
from search.tracking.record import Record
from search.tracking.tracker import Tracker
from search.trial.config_hash import config_sha256
from tests import tiny
from tests.process import run

pytestmark = pytest.mark.filterwarnings("ignore")
ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "own_component"
GIVEN = ["--config-dir", str(EXAMPLE)]
OPTION = "algebraic_gate"
TINY = [*tiny.TINY, "data.batch_size=16", "trainer.max_steps=2", "trainer.val_every=2"]
MODULE = "import torch\n\n\nclass Half(torch.nn.Module):\n    def forward(self, x):\n        return x.relu() / 2\n"


def option_file(folder: Path, target: str, name: str = "mine", kind: str = "activation", more: str = "") -> Path:
    (folder / kind).mkdir(parents=True, exist_ok=True)
    path = folder / kind / f"{name}.yaml"
    path.write_text(f"# f\n# nobody\n_target_: {target}\n{more}space: {{}}\n")
    return path


@dataclass
class Searched:
    """A search in which the example is one of two activations."""

    store: Path
    records: list[Record]

    @property
    def own(self) -> Record:
        return next(record for record in self.records if f"activation={OPTION}" in record.overrides)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    store = tmp_path_factory.mktemp("own") / "runs"
    kinds = ["search.kinds={activation:[silu," + OPTION + "]}", f"search.enqueue=[['activation={OPTION}']]"]
    command = ["search", *GIVEN, f"store={store}", *TINY, *kinds, "pruner=none", "search.n_trials=3"]
    output, errors = store.parent / "output", store.parent / "errors"
    assert run([*command, "search.confirm.finalists=0"], output, errors=errors) == 0, errors.read_text()
    assert errors.read_text() == ""
    tracker = Tracker(None, "denoise-search", store)
    return Searched(store, tracker.records(tracker.searches()[0].info.run_id))


def test_the_catalogue_lists_it_and_what_is_written_leaves_it_out(capsys: pytest.CaptureFixture[str]) -> None:
    before = (ROOT / "README.md").read_bytes()
    assert main(["catalog", *GIVEN]) == 0
    assert OPTION in capsys.readouterr().out
    assert (ROOT / "README.md").read_bytes() == before
    assert main(["catalog", "--check", *GIVEN]) == 0


def test_a_search_draws_it(searched: Searched) -> None:
    assert len(searched.records) == 3 and all(record.outcome == "complete" for record in searched.records)
    drawn = dict(text.split("=", 1) for text in searched.own.overrides)
    assert 0.3 <= float(drawn["activation.a"]) <= 3.0
    assert not any("config" in text or "allow" in text for text in searched.own.overrides)


def test_the_example_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "runs"
    assert main(["train", *GIVEN, f"store={store}", *TINY, f"activation={OPTION}", "activation.a=2"]) == 0
    tracker = Tracker(None, "denoise-search", store)
    (trained,) = tracker.client.search_runs([tracker.experiment_id])
    assert trained.data.params[f"activation.{OPTION}.a"] == "2"
    assert main(["train", *GIVEN, f"activation={OPTION}", "activation.a=9"]) == 2
    assert "activation.a=9" in capsys.readouterr().err


def test_reproduce_asks_for_the_folder_and_gives_the_same_bits_with_it(
    searched: Searched, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [f"store={searched.store}", "--run", searched.own.run_id]
    for verb in ("reproduce", "sample"):
        assert main([verb, *arguments]) == 2
        err = capsys.readouterr().err
        assert len(err.splitlines()) == 1 and f"activation={OPTION}" in err and "--config-dir" in err
    assert main(["reproduce", *arguments, *GIVEN]) == 0
    assert "bit for bit" in capsys.readouterr().out


def test_the_command_of_best_gives_the_folder(searched: Searched, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["best", f"store={searched.store}", "--run", searched.own.run_id, *GIVEN]) == 0
    out = capsys.readouterr().out
    assert f'ARGS="--config-dir {EXAMPLE} ' in out
    (again,) = re.findall(r'ARGS="(--config-dir \S+ store=\S+ --config-dir \S+ --config-name best)"', out)
    with pytest.raises(SystemExit):
        main(["train", *again.split(), "--cfg"])
    assert "gates.AlgebraicGate" in capsys.readouterr().out


CONTRACT = """
import os, sys
import pytest
os.chdir({root!r})
status = pytest.main({arguments!r})
sys.stdout.flush()
os._exit(status)
"""


def test_the_contract_of_its_kind_is_tested_on_it(tmp_path: Path) -> None:
    arguments = ["-n", "0", "-p", "no:cacheprovider", "-vv", "-k", OPTION, *GIVEN]
    arguments += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    arguments += ["tests/denoise/activation/test_activation.py", "tests/repository/test_structure.py"]
    output = tmp_path / "output"
    status = run([], output, CONTRACT.format(root=str(ROOT), arguments=arguments))
    said = output.read_text()
    assert status == 0, said
    for test in ("test_value_and_gradient_follow", "test_each_searched_parameter_acts", "test_an_option_file_is"):
        assert re.search(rf"{test}\S*\[.*{OPTION}.*PASSED", said), f"{test} did not run"


def test_the_document_shows_the_files() -> None:
    text = (ROOT / "docs" / "own_component.md").read_text(encoding="utf-8")
    assert (EXAMPLE / "conf" / "activation" / f"{OPTION}.yaml").read_text(encoding="utf-8") in text
    for name, start in (("gates.py", "class "), ("formulas.py", "ACTIVATION")):
        content = (EXAMPLE / name).read_text(encoding="utf-8")
        assert content[content.index(start) :] in text, f"{name} has changed"


def test_kinds_stand_in_the_folder_itself_or_in_conf(tmp_path: Path) -> None:
    for i, place in enumerate(("", "conf")):
        home = tmp_path / str(i)
        (home / f"parts_{i}").mkdir(parents=True)
        (home / f"parts_{i}" / "__init__.py").write_text(MODULE)
        option_file(home / place, f"parts_{i}.Half", f"half_{i}")
        catalog.add_folder(home)
        catalog.check_own()
        x = torch.tensor([-2.0, 2.0])
        assert catalog.build("activation", f"half_{i}")(x).tolist() == [0.0, 1.0]


def test_a_component_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "own_steps.py").write_text(
        "import torch\n\n\nclass Half(torch.optim.SGD):\n"
        "    def __init__(self, params, lr):\n        super().__init__(params, lr / 2)\n"
    )
    option_file(tmp_path / "conf", "own_steps.Half", kind="optimizer", more="lr: 0.1\n")
    catalog.add_folder(tmp_path)
    w = torch.nn.Parameter(torch.ones(3))
    assert catalog.build("optimizer", "mine", [w], lr=0.5).param_groups[0]["lr"] == 0.25


def test_the_hash_of_a_config_is_also_that_of_ones_own_code(tmp_path: Path) -> None:
    """Of the file, of those that it may import, of a package's; of a library's code it is not."""
    (tmp_path / "hashed_code.py").write_text(MODULE)
    (tmp_path / "hashed_package" / "inner").mkdir(parents=True)
    (tmp_path / "hashed_package" / "__init__.py").write_text(MODULE)
    option_file(tmp_path / "conf", "hashed_code.Half", "in_a_file")
    option_file(tmp_path / "conf", "hashed_package.Half", "in_a_package")
    catalog.add_folder(tmp_path)

    def hashes() -> list[str]:
        trust._sha256.cache_clear()  # as another process has it
        return [config_sha256(raw_compose((f"activation={o}",))) for o in ("in_a_file", "in_a_package", "silu")]

    seen = [hashes()]
    assert hashes() == seen[0] and len(set(seen[0])) == 3
    (tmp_path / "plain").mkdir()
    for path in ("hashed_code.py", "beside_it.py", "hashed_package/inner/deep.py", "plain/folder.py"):
        (tmp_path / path).write_text(MODULE.replace("/ 2", "/ 3"))
        seen.append(hashes())
    (tmp_path / ".#hashed_code.py").symlink_to("somebody@edits.it")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "others.py").touch()
    assert hashes() == seen[-1]
    files, packages, library = ([each[k] for each in seen] for k in range(3))
    assert len(set(files)) == len(set(packages)) == 5 and len(set(library)) == 1
    (tmp_path / "conf" / "activation" / "in_a_file.yaml").touch()
    assert hashes() == seen[-1]


def test_what_was_trained_with_other_code_is_trained_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home, store = tmp_path / "home", tmp_path / "runs"
    home.mkdir()
    (home / "edited_code.py").write_text(MODULE)
    option_file(home / "conf", "edited_code.Half", "half")
    kinds = ["search.kinds={activation:[silu,half]}", "search.enqueue=[['activation=half']]", "search.n_trials=2"]
    command = ["search", "--config-dir", str(home), f"store={store}", *TINY, *kinds, "search.confirm.finalists=0"]
    assert main(command) == 0
    (home / "edited_code.py").write_text(MODULE.replace("/ 2", "/ 4"))
    trust._sha256.cache_clear()
    capsys.readouterr()
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "your own code" in said and "1 trial of" in said and "1 outside the new space not" in said
    tracker = Tracker(None, "denoise-search", store)
    after = {r.number: r for r in tracker.records(tracker.searches()[0].info.run_id)}
    again = [r for r in after.values() if "activation=half" in r.overrides]
    assert again and not any({"carried_from", "duplicate_of"} & r.tags.keys() for r in again)
    assert "carried_from" in after[0].tags, "the baseline's code has not changed"


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str], *words: str) -> str:
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1, err
    assert not [word for word in words if word not in err], err
    return err


@pytest.mark.parametrize(
    ("target", "module", "words"),
    [
        ("not_there.Half", None, ["not_there.Half", "not trusted", "--config-dir", "allow=[not_there.]"]),
        ("os.system", None, ["os.system", "not trusted"]),
        ("wrong_syntax.Half", ("wrong_syntax.py", "def\n"), ["mine.yaml", "wrong_syntax", "SyntaxError"]),
        ("wrong_import.Half", ("wrong_import.py", "import nothing_of_the_kind\n"), ["nothing_of_the_kind"]),
        ("wrong_run.Half", ("wrong_run.py", "1 / 0\n"), ["wrong_run", "ZeroDivisionError"]),
        ("wrong_name.Hulf", ("wrong_name.py", MODULE), ["wrong_name.Hulf"]),
        ("wrong_dots..Half", ("wrong_dots.py", MODULE), ["wrong_dots..Half"]),
        ("json.Half", ("json.py", MODULE), ["json.py", "another name"]),
    ],
)
def test_code_that_cannot_be_used_is_refused(
    target: str,
    module: tuple[str, str] | None,
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    option_file(tmp_path / "conf", target)
    if module is not None:
        (tmp_path / module[0]).write_text(module[1])
    refused(capsys, ["train", "--config-dir", str(tmp_path)], *words)


def test_folders_that_hold_nothing_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, ["catalog", "--config-dir", str(tmp_path / "no")], "no such folder", str(tmp_path))
    (tmp_path / "best.yaml").write_text("defaults: [train, _self_]\n")  # as in a search's store
    refused(capsys, ["catalog", "--config-dir", str(tmp_path)], "holds no option", "conf/KIND/mine.yaml")
    option_file(tmp_path / "conf", "torch.nn.ReLU", kind="activations")
    refused(capsys, ["catalog", "--config-dir", str(tmp_path)], "activations/", "did you mean 'activation'")


def test_an_option_that_exists_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    option_file(tmp_path, "torch.nn.ReLU", "silu")
    refused(capsys, ["train", "--config-dir", str(tmp_path)], "activation=silu exists already", "rename")


def test_a_module_elsewhere_is_trusted_by_allow_and_that_is_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own_elsewhere.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    arguments = ["train", f"store={tmp_path / 'runs'}", *TINY, "activation._target_=own_elsewhere.Half"]
    refused(capsys, arguments, "own_elsewhere.Half", "allow=[own_elsewhere.]")
    refused(capsys, [*arguments, "allow=own_elsewhere."], "allow=own_elsewhere.", "a list")
    assert main([*arguments, "allow=[own_elsewhere.]"]) == 0
    tracker = Tracker(None, "denoise-search", tmp_path / "runs")
    (trained,) = tracker.client.search_runs([tracker.experiment_id])
    assert not any("allow" in text for text in json.loads(trained.data.tags["overrides"]))


def test_a_root_config_of_ones_own_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "own_package.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    option_file(tmp_path / "conf", "own_package.Half")
    (tmp_path / "conf" / "mine.yaml").write_text(
        "defaults: [train, override /activation: mine, _self_]\nallow: [own_package]\n"
    )
    given = ["train", "--config-dir", str(tmp_path / "conf"), "--cfg"]
    refused(capsys, given, "own_package.Half")
    with pytest.raises(SystemExit):
        main([*given, "--config-name", "mine"])
    assert "own_package.Half" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["3", "null", "true", "a,b", "a=b", "a'b", "my act", ".a", "a.b"])
def test_a_name_that_cannot_be_typed_is_refused(name: str, tmp_path: Path) -> None:
    file = tmp_path / "conf" / "activation" / f"{name}.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("# f\n# s\n_target_: torch.nn.ReLU\nspace: {}\n")
    with pytest.raises(UserError, match="rename the file"):
        catalog.add_folder(tmp_path)


def test_a_folder_may_be_given_twice_and_is_read_once() -> None:
    catalog.add_folder(EXAMPLE)
    before = catalog.folders()
    catalog.add_folder(EXAMPLE / "conf")
    assert catalog.folders() == before
    with pytest.raises(UserError, match="no such folder"):
        catalog.add_folder(EXAMPLE / "nothing")
