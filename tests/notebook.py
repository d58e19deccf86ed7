"""A notebook's code cells, run in one namespace: what each shows, as Jupyter would write it.

`python -m tests.notebook docs/example.ipynb` runs it in an empty folder and writes its outputs anew.
"""

import ast
import base64
import contextlib
import io
import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Output = dict[str, Any]


def read(path: Path) -> dict[str, Any]:
    """The notebook, as nbformat 4 has it."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def code(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """Its cells of code."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run(notebook: dict[str, Any], names: dict[str, Any], change: Callable[[str], str] = str) -> Iterator[list[Output]]:
    """The outputs of each cell of code, in order. names: where they run; change: what is run for a cell's source."""
    for number, cell in enumerate(code(notebook), 1):
        body = ast.parse(change("".join(cell["source"]))).body
        last = body.pop() if isinstance(body[-1], ast.Expr) else None
        said, value = io.StringIO(), None
        with contextlib.redirect_stdout(said):
            exec(compile(ast.Module(body, []), f"cell {number}", "exec"), names)
            if isinstance(last, ast.Expr):
                value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
        outputs: list[Output] = []
        if text := said.getvalue():
            outputs.append({"name": "stdout", "output_type": "stream", "text": text.splitlines(keepends=True)})
        if value is not None:
            result = {"data": shown(value), "execution_count": number, "metadata": {}, "output_type": "execute_result"}
            outputs.append(result)
        yield outputs


def shown(value: Any) -> dict[str, Any]:
    """A value in each form that it has for a notebook: text, HTML, PNG."""
    data: dict[str, Any] = {"text/plain": re.sub(r" at 0x\w+", "", repr(value)).splitlines(keepends=True)}
    if hasattr(value, "_repr_html_"):
        data["text/html"] = value._repr_html_().splitlines(keepends=True)
    if hasattr(value, "_repr_png_"):
        data["image/png"] = base64.b64encode(value._repr_png_()).decode()
    return dict(sorted(data.items()))


def write(path: Path) -> None:
    """Run a notebook in an empty folder, and write what its cells show into it."""
    notebook, names = read(path), {"__name__": "__main__"}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for number, (cell, outputs) in enumerate(zip(code(notebook), run(notebook, names), strict=True), 1):
            cell |= {"execution_count": number, "outputs": outputs}
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]).resolve())
