"""docs/example.ipynb: its cells run, one after the other, and show what is written in it."""

import re
from pathlib import Path
from typing import Any

import pytest

import search
from denoise.errors import UserError
from tests import notebook, tiny

PATH = Path(__file__).parents[2] / "docs" / "example.ipynb"
FEWER = [*tiny.TINY, "search.confirm.finalists=0", "search.workers=1", "trainer.max_steps=4"]
SMALLER = {'"trainer.max_steps=60"': repr(FEWER)[1:-1], '"trainer.val_every=30"': '"trainer.val_every=2"'}
SMALLER |= {"[relu,silu,sigmoid]": "[relu,silu]", '"search.confirm.finalists=1",': "", '"model.width=8",': ""}


def smaller(source: str) -> str:
    """The cell with a search of seconds."""
    for before, after in SMALLER.items():
        source = source.replace(before, after)
    return source


def kinds(outputs: list[notebook.Output]) -> list[list[str]]:
    """Of each output the forms that it has."""
    return [sorted(each.get("data", [each.get("name")])) for each in outputs]


def stable(output: notebook.Output) -> str:
    """What an output says that depends neither on time nor on which option is the best: no losses, no tables."""
    data: dict[str, Any] = output.get("data", {})
    text = "".join(output.get("text", data.get("text/plain", [])))
    return "" if re.search(r"\d\.\d", text) or "text/html" in data else re.sub(r"SiLU|ReLU", "OPTION", text)


@pytest.mark.filterwarnings("ignore")
def test_the_example_shows_what_is_written_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cells = notebook.code(written := notebook.read(PATH))
    assert all(before in "".join(cells[0]["source"]) for before in SMALLER)
    names: dict[str, Any] = {"__name__": "__main__"}
    found = list(notebook.run(written, names, smaller))
    for cell, outputs in zip(cells, found, strict=True):
        assert kinds(outputs) == kinds(cell["outputs"]), "make it anew: python -m tests.notebook docs/example.ipynb"
        assert list(map(stable, outputs)) == list(map(stable, cell["outputs"]))
    shown = [kind for outputs in found for forms in kinds(outputs) for kind in forms]
    assert shown.count("text/html") == 2 and shown.count("image/png") == 1
    assert sum(bool(stable(each)) for outputs in found for each in outputs) >= 3
    assert PATH.stat().st_size < 300_000 and written["nbformat"] == 4

    report, table = names["found"], names["table"]
    said = " ".join("".join(found[0][0]["text"]).split())
    assert report.answer[0] in said and report.name.startswith("digits-unet-ablation"), "what a search says is shown"
    assert list(table["what"]) == ["trial", "trial"] and table["val/loss"].is_monotonic_increasing


def test_what_a_search_refuses_a_notebook_is_told() -> None:
    with pytest.raises(UserError, match="activaton=relu: no such key"):
        search.run(["activaton=relu"])
