"""The page about the claims: its prose is written by hand, what stands between its markers comes from the results."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from experiments import tables
from experiments.claims.plot import Plot, draw

RESULTS, LINES = tables.FOLDER / "claims.jsonl", tables.FOLDER / "claims_plots.jsonl"
PAGE = tables.ROOT / "docs" / "claims.md"
PLOTS = tables.ROOT / "docs" / "claims"
COMMAND = "python -m experiments.claims"


def read() -> dict[str, Any]:
    """What is measured so far, by the claim's number."""
    return {one.pop("claim"): one for one in tables.read(RESULTS)[1]}


def plots() -> dict[str, Plot]:
    """What the plots show, by the claim's number."""
    return {one["claim"]: Plot.of(one) for one in tables.read(LINES)[1]}


def written(claims: Mapping[str, Any], text: str) -> str:
    """The page's text with everything between markers made anew from the results."""
    headings = re.findall(r"^## (\d+)\. (.+)$", text, re.MULTILINE)
    text = between(text, "verdicts", verdicts(claims, headings))
    for number, _ in headings:
        text = between(text, f"claim {number}", block(number, claims.get(number)))
    return text


def between(text: str, name: str, inside: Sequence[str]) -> str:
    """Put lines between the markers of a name. Errors: ValueError where the text lacks them."""
    begin, end = f"<!-- {name}: made by {COMMAND} -->", f"<!-- end of {name} -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"docs/claims.md: needs the lines {begin} and {end}, each once")
    head, _, rest = text.partition(begin)
    return "\n".join([f"{head}{begin}", *inside, f"{end}{rest.partition(end)[2]}"])


def verdicts(claims: Mapping[str, Any], headings: Sequence[tuple[str, str]]) -> list[str]:
    """A row a claim, then where and when they were tried."""
    rows = []
    for number, title in headings:
        anchor = re.sub(r"[^\w\- ]", "", f"{number}. {title}".lower()).replace(" ", "-")
        verdict = claims[number]["verdict"] if number in claims else "not measured yet"
        rows.append([number, f"[{title}](#{anchor})", f"**{verdict}**"])
    found = sorted(
        {(one["machine"]["processor"], one["machine"]["torch"], one["date"][:10]) for one in claims.values()}
    )
    seconds = sum(one["seconds"] for one in claims.values())
    measured = [f"{processor}, one thread, torch {torch}, {date}" for processor, torch, date in found]
    return [*table(["", "claim", "verdict"], rows), "", f"{'; '.join(measured)}; {seconds / 60:.0f} minutes in all."]


def block(number: str, one: Mapping[str, Any] | None) -> list[str]:
    """Verdict, figures, plot and tables of a claim."""
    if one is None:
        return ["Not measured yet."]
    checks = one["checks"]
    held = sum(check["holds"] for check in checks)
    rows = [
        [check["figure"], check["expected"], shown(check["value"]), "yes" if check["holds"] else "**no**"]
        for check in checks
    ]
    lines = [
        f"**{one['verdict'].capitalize()}**: {held} of {len(checks)} figures are what the claim as written asks for."
    ]
    lines += ["", *table(["figure", "the claim asks for", "measured", "holds"], rows)]
    lines += ["", f"![Claim {number}]({PLOTS.name}/{number}.svg)"]
    for each in one["tables"]:
        lines += ["", each["said"], "", *table(each["head"], each["rows"])]
    return [*lines, "", f"`{COMMAND} claims={number}`, {one['seconds']:.0f} s."]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a markdown table."""
    cells = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return [f"| {' | '.join(row)} |" for row in cells]


def shown(value: float | str) -> str:
    """A measured value; what never came to pass is said so."""
    return {"inf": "never"}.get(value, value) if isinstance(value, str) else f"{value:.3g}"


def refresh() -> None:
    """Write the page and its plots anew from the results."""
    PLOTS.mkdir(parents=True, exist_ok=True)
    for number, plot in plots().items():
        (PLOTS / f"{number}.svg").write_bytes(draw(plot))
    text = written(read(), PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(text, encoding="utf-8")
