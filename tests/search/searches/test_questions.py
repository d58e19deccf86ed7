"""Each command of docs/questions.md, as it stands there, in a folder where nothing was before."""

import os
import re
import shlex
from pathlib import Path

import pytest

from search.__main__ import VERBS, main
from search.cli.from_make import words
from search.tracking.tracker import Tracker
from tests import tiny

pytestmark = pytest.mark.filterwarnings("ignore")
TEXT = (Path(__file__).parents[3] / "docs" / "questions.md").read_text()
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", TEXT, re.DOTALL)
SMALL = [*tiny.TINY, "data.batch_size=16", "trainer.max_steps=4", "trainer.val_every=2", "search.enqueue=[]"]
SMALL += ["search.confirm.finalists=1", "search.confirm.seeds=3", "search.confirm.test_samples=16"]
ELSEWHERE = ("make up", "ENGINE=compose", "ssh ")  # what make test-docker does


def do(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Do what a line of a shell says, smaller where it trains; what it prints."""
    typed, _, into = (part.strip() for part in line.partition("#")[0].partition(">"))
    program, *rest = shlex.split(typed)
    if program == "mv":
        os.rename(*rest)
        return ""
    verb, *given = rest
    assert program == "make" and verb in VERBS
    arguments = words(["search", verb], dict(word.split("=", 1) for word in given))[1:]
    if verb == "search":
        joint = [] if any(text.startswith("search") for text in arguments[1:]) else ["search.n_trials=2"]
        arguments = [*(text.replace("74", "4") for text in arguments), *joint, *SMALL]
    assert main(arguments) == 0, line
    said = capsys.readouterr().out
    if into:
        Path(into).write_text(said)
    return said


def test_every_command_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["search", "search.n_trials=2", *SMALL]) == 0
    said: dict[str, str] = {}
    for language, block in BLOCKS:
        if language == "python":
            run = re.search(r'denoise\.load\("(\w{32})"\)', said["make best"])
            assert run is not None
            names: dict[str, object] = {}
            exec(block.replace('"RUN"', repr(run[1])), names)
            assert tuple(names["images"].shape) == (16, 1, 8, 8) if "images" in names else len(names["table"]) > 2  # type: ignore[attr-defined,arg-type]
            continue
        for line in filter(None, block.splitlines()):
            if not any(word in line for word in ELSEWHERE):
                said[line] = do(line, capsys)
    ours = {line: " ".join(text.split()) for line, text in said.items()}
    assert re.search(r"better|worse|no difference shown|nothing is shown", ours["make report"])
    assert "Nothing is removed yet" in ours["make remove RUN=digits-unet-joint"]
    assert (tmp_path / "elsewhere" / "report.html").exists() and not (tmp_path / "runs").exists()
    assert (tmp_path / "trials.csv").read_text().startswith("what,trial,differs")
    searches = Tracker(None, "denoise-search", tmp_path / "elsewhere").searches()
    trials = [run.data.params["trials"] for run in searches]
    assert trials == ["9", "2"] and len(BLOCKS) >= 12
