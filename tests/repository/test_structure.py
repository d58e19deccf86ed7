"""What holds the structure: floors, names, sizes, docstrings, option files, verbs. A new room is entered in FLOORS."""

import ast
import json
import re
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from functools import cache
from pathlib import Path

import pytest
from hydra.utils import get_object
from optuna.distributions import CategoricalDistribution, json_to_distribution

from denoise import metrics
from denoise.config import catalog, trust
from experiments import tables
from search.catalog_pages import evidence
from search.storages.attributes import OfStudy, OfTrial
from search.tracking.tags import Tag
from tests import conftest

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "denoise"

# Imports point down: a module imports from the folders on the lines above its own, or of its own folder.
FLOORS = {
    "denoise": (
        "randomness interruption errors pictures precision metrics",
        "process_state fault paths",
        "config",
        "activation normalization weight_normalization initializer feed_forward optimizer lr_schedule denoiser data "
        "best_file",
        "model kernels quality",
        "foreign",
        "training",
        "evaluation inference",
    ),
    "search": (
        "console",
        "runtime catalog_pages",
        "storages space",
        "tracking samplers pruners",
        "trial analysis quality",
        "report",
        "workers",
        "confirmation",
        "study",
        "searches",
        "cli",
        "notebook",
        "__main__",
    ),
}
FLOOR = {
    f"{top}.{room}": floor
    for top, floors in FLOORS.items()
    for floor, rooms in enumerate(floors)
    for room in rooms.split()
}
DOORS = {
    "config",
    "training",
    "evaluation",
    "inference",
    "pictures",
    "metrics",
    "errors",
    "fault",
    "interruption",
    "paths",
    "best_file",
}  # what search may enter
EXCEPTIONS = {("search.samplers", "randomness")}  # a draw is keyed like all others
ABOVE = {"optuna", "mlflow", "search"}  # denoise knows nothing of these
READS_RUNS = "src/denoise/inference/load.py"  # denoise.load, which imports mlflow when it is called
MOST_FILES = 12  # of a folder

# Names that a library keeps to itself: these alone, and where
PRIVATE = {
    "torch.utils._python_dispatch": {"src/denoise/foreign/census.py"},  # public in its documentation
    "omegaconf._utils": {"src/denoise/config/compose.py"},  # its dumper, see there; held by test_recompose
    "os._exit": {"search/cli/worker.py", "search/runtime/startup.py", "src/denoise/interruption.py"},  # documented
    "atexit._run_exitfuncs": {"search/runtime/startup.py"},
    "nn.init._calculate_fan_in_and_fan_out": {"src/denoise/initializer/library.py"},
    "torch._weight_norm": {"src/denoise/weight_normalization.py"},
}
FOREACH = "torch._foreach_"  # torch's optimizers are made of them

VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base"}
MAX_LINES = 300
HOOKS = re.compile(
    r"forward|on_.*|setup|state_dict|load_state_dict|configure_optimizers|training_step|validation_step|test_step"
    r"|train_dataloader|val_dataloader|test_dataloader|zero_layers|generator|_.*"
    r"|coefficients|loss_weight|sigma"  # said at Denoiser
)
# Public, but parts of options rather than options
BUILDING_BLOCKS = {
    "normalization": {
        *(
            "ChannelsAtEnd",
            "OverChannels",
            "OverPositions",
            "Affine",
            "as_tokens",
            "as_before",
            "mean_of_groups",
            "inverse_root",
        ),
        *("GroupNorm", "BatchNorm", "InstanceNorm", "RMSNorm"),
    },
    "activation": {"Elementwise", "positive", "softplus", "sides", "pade", "bounded", "horner"},
    "denoiser": {"Denoiser", "LogNormal", "ladder"},
    "optimizer": {"parameter_groups", "is_matrix", "split_matrices", "Halved", "joined", "Rule", "check", "Library"},
    "initializer": {
        *("auto_gain", "resolve_gain", "UnitVariance", "to_unit_variance", "set_weight", "training"),
        *("Weights", "prefix", "unfit", "read", "Scope", "Report", "Stage"),
    },
}
VERBS = (
    "install search train ui best reproduce report sample searches trials compare remove up down logs catalog inspect "
    "sites bench test test-components test-verbs test-faults test-browser test-docker lint help lock"
)


def modules(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def dotted(path: Path) -> str:
    parts = path.relative_to(SRC.parent if path.is_relative_to(SRC) else ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, as far as its name can be read: `from denoise.training import cost` too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(module: str) -> str:
    """denoise.data.images.load -> denoise.data."""
    return ".".join(module.split(".")[:2]) if "." in module else ""


def names(path: Path) -> list[str]:
    return [str(file.relative_to(ROOT)) for file in modules(path)]


FILES = [*names(SRC), *names(ROOT / "search")]


def test_what_a_processor_likes_is_put_in_from_one_place() -> None:
    """The maths is only maths: blocks and components import torch, and nothing of kernels."""
    entering = {name for name in names(SRC) for i in imports(ROOT / name) if i.startswith("denoise.kernels")}
    assert {name for name in entering if "/kernels/" not in name} == {"src/denoise/training/build.py"}


def holds(check: Callable[[str], Iterator[str]], files: Sequence[str] = FILES) -> None:
    """Assert that a check has nothing to say of any file."""
    found = "\n".join(f"{name}: {said}" for name in files for said in check(name))
    assert not found, found


def test_imports_point_down() -> None:
    def check(name: str) -> Iterator[str]:
        own = room(dotted(ROOT / name))
        if own and own not in FLOOR:
            yield "in no floor; enter its folder in FLOORS, above what it imports"
        for imported in imports(ROOT / name) if own in FLOOR else ():
            top = imported.split(".")[0]
            if top in ABOVE and not own.startswith("search.") and (top, name) != ("mlflow", READS_RUNS):
                yield f"imports {imported}: denoise knows nothing of it"
            elsewhere = imported != "search.__version__" and room(imported) != own
            if top == own.split(".")[0] and elsewhere and FLOOR.get(room(imported), -1) >= FLOOR[own]:
                yield f"imports {imported}, which is not on a lower floor"

    holds(check)


def test_search_enters_denoise_by_its_doors() -> None:
    def check(name: str) -> Iterator[str]:
        entered = {room(i).partition(".")[2] for i in imports(ROOT / name) if i.startswith("denoise.")}
        allowed = DOORS | {to for by, to in EXCEPTIONS if by == room(dotted(ROOT / name))}
        yield from (f"imports denoise.{name}" for name in sorted(entered - allowed))

    holds(check, names(ROOT / "search"))


def test_floors_and_exceptions_name_only_what_exists() -> None:
    rooms = {room(dotted(path)) for top in (SRC, ROOT / "search") for path in modules(top)} - {""}
    assert rooms == set(FLOOR)
    for by, to in EXCEPTIONS:
        files = modules(ROOT / Path(*by.split(".")))
        assert f"denoise.{to}" in {room(i) for path in files for i in imports(path)}, f"{by} no longer imports {to}"


def test_a_folder_is_small() -> None:
    rooms = {path.parent for path in (ROOT / "tests").rglob("*.py")}
    for folder in {(ROOT / name).parent for name in FILES} | rooms:
        files = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(files) <= MOST_FILES, f"{folder.name}: {len(files)} files; make a folder of some"


def test_tests_follow_the_rooms() -> None:
    """tests/search/study tests search/study: a folder of tests has the name of the folder that it is about."""
    tested = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    there = {path.parent.relative_to(SRC.parent) for path in SRC.rglob("*.py")}
    there |= {path.parent.relative_to(ROOT) for top in ("search", "experiments") for path in (ROOT / top).rglob("*.py")}
    assert tested - there == {Path("repository"), Path("browser")}


def test_the_lists_of_tests_name_files_that_exist() -> None:
    there = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    assert set(conftest.LONG) | set(conftest.QUICK) <= there


def test_one_file_reads_what_experiments_found_and_it_reads_the_summary() -> None:
    paths = [path for top in (SRC, ROOT / "search") for path in modules(top)]
    assert not [path for path in paths for i in imports(path) if i.split(".")[0] in ("benchmarks", "experiments")]
    naming = {path.name for path in paths if '/ "experiments" /' in path.read_text(encoding="utf-8")}
    assert naming == {"evidence.py"} and evidence.SUMMARY == tables.SUMMARY


def test_a_class_has_a_name_of_its_own() -> None:
    found: dict[str, list[str]] = {}
    for name in FILES:
        for node in tree(ROOT / name).body:
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(name)
    assert not {name: files for name, files in found.items() if len(files) > 1}


def test_a_metric_is_named_in_one_file() -> None:
    known = {value for key, value in vars(metrics).items() if key.isupper()}

    def check(name: str) -> Iterator[str]:
        there = {node.value for node in ast.walk(tree(ROOT / name)) if isinstance(node, ast.Constant)}
        yield from (f"{each!r}; import it from denoise.metrics" for each in there & known)

    holds(check, [name for name in FILES if not name.endswith("/metrics.py")])


@pytest.mark.parametrize("names_of", [Tag, OfTrial, OfStudy])
def test_each_tag_and_attribute_is_in_use(names_of: type[StrEnum]) -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in modules(ROOT / "search"))
    idle = [each.name for each in names_of if f"{names_of.__name__}.{each.name}" not in text]
    assert not idle, f"{names_of.__name__}: nothing reads or writes {', '.join(idle)}"


def test_overrides_are_read_where_they_come_in() -> None:
    """What is typed and what a record says is parsed there; everything else asks `Overrides`."""
    parsing = {
        name for name in names(ROOT / "search") for i in imports(ROOT / name) if i.endswith("config.parse.parse")
    }
    assert parsing == {"search/cli/standby.py"}


def test_what_the_page_says_is_where_is_there() -> None:
    text = (ROOT / "docs" / "how_it_works.md").read_text(encoding="utf-8")
    told = re.findall(r"`((?:search|src)/[\w/]+\.py)` `(\w+)`", text)
    assert len(told) > 10
    for name, defined in told:
        assert re.search(rf"^ *(def|class) {defined}\b", (ROOT / name).read_text(), re.MULTILINE), f"{name}: {defined}"


def test_no_vague_names() -> None:
    for top in ("src", "search", "conf", "tests", "benchmarks", "experiments", "docker", "docs"):
        found = [str(p.relative_to(ROOT)) for p in (ROOT / top).rglob("*") if p.stem.lower() in VAGUE]
        assert not found, f"named after nothing: {', '.join(found)}"


def test_a_file_is_short() -> None:
    lines = {name: len((ROOT / name).read_text(encoding="utf-8").splitlines()) for name in FILES}
    long = {name: number for name, number in lines.items() if number > MAX_LINES}
    assert not long, f"over {MAX_LINES} lines; split {long}"


def silent(body: list[ast.stmt], inside: str = "") -> Iterator[str]:
    """The public functions, classes and methods without a docstring."""
    for node in body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef) or HOOKS.fullmatch(node.name):
            continue
        if not (ast.get_docstring(node) or "").split("\n")[0].strip():
            yield inside + node.name
        if isinstance(node, ast.ClassDef):
            yield from silent(node.body, f"{inside}{node.name}.")


def test_what_is_public_says_what_it_does() -> None:
    holds(lambda name: (f"no docstring at {each}" for each in silent(tree(ROOT / name).body)), names(SRC))


@pytest.mark.parametrize("backbone", ["block", "unet", "dit"])
def test_model_code_knows_no_component_by_name(backbone: str) -> None:
    known = {option for kind in catalog.KINDS for option in catalog.options(kind)} - {"none"}
    module = tree(SRC / "model" / f"{backbone}.py")
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(module)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and id(node) not in docstrings:
            assert node.value not in known, f"{backbone}.py:{node.lineno} names the component {node.value}"


OPTIONS = [(kind, option) for kind in catalog.KINDS for option in catalog.options(kind)]


@pytest.mark.parametrize(("kind", "option"), OPTIONS)
def test_an_option_file_is_complete(kind: str, option: str) -> None:
    found = catalog.entry(kind, option)
    lines = found.path.read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if not line.startswith("# @package")]
    assert all(re.match(r"# \S", line) for line in lines[:2]), "the first two lines are the formula and the source"
    assert "space:" in "\n".join(lines), "space is declared, if only as {}"
    trust.check_targets({"_target_": found.target}, kind, f"{kind}={option}")
    assert callable(get_object(found.target))
    for name, domain in found.space.items():
        assert name in found.parameters, f"space has {name}, which is no parameter of the file"
        value, distribution = found.parameters[name], json_to_distribution(json.dumps(domain))
        if isinstance(distribution, CategoricalDistribution):
            assert value in distribution.choices
        else:
            assert distribution.low <= value <= distribution.high, f"{name}: {value} is outside its own domain"


@pytest.mark.parametrize("kind", catalog.KINDS)
def test_maths_of_a_kind_is_reached_by_an_option_file(kind: str) -> None:
    files = modules(SRC / kind) or [SRC / f"{kind}.py"]
    defined = {
        node.name
        for file in files
        for node in tree(file).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")
    }
    blocks = BUILDING_BLOCKS.get(kind, set())
    targets = {catalog.entry(kind, option).target for option in catalog.options(kind)}
    reached = {target.rpartition(".")[2] for target in targets if target.startswith(f"denoise.{kind}.")}
    assert blocks <= defined, f"no longer there: {', '.join(sorted(blocks - defined))}"
    assert defined - blocks == reached, f"without an option file: {', '.join(sorted(defined - blocks - reached))}"


def test_make_has_the_verbs_and_no_others() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    explained = re.findall(r"^([a-z][\w-]*):[^=\n]*## \S", text, re.MULTILINE)
    phony = " ".join(re.findall(r"^VERBS :=(.*)$", text, re.MULTILINE)).split()
    rules = re.findall(r"^([a-z][\w-]*):(?!=)", text, re.MULTILINE)
    assert sorted(explained) == sorted(phony) == sorted(rules) == sorted(VERBS.split())


def _private(path: Path) -> Iterator[str]:
    """The names with an underscore in front that a file takes from elsewhere."""
    nodes = list(ast.walk(tree(path)))
    own = {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    own |= {t.attr for t in nodes if isinstance(t, ast.Attribute) and ast.unparse(t.value) in ("self", "cls")}
    for node in nodes:
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        yield from (n for n in names if any(p[:1] == "_" and p[:2] != "__" for p in n.split(".")))
        if isinstance(node, ast.Attribute) and node.attr[:1] == "_" and node.attr[:2] != "__" and node.attr not in own:
            yield ast.unparse(node)


def test_a_file_takes_no_private_name_of_a_library() -> None:
    def check(name: str) -> Iterator[str]:
        found = {each for each in _private(ROOT / name) if not each.startswith((FOREACH, "super()"))}
        found -= {each for each, places in PRIVATE.items() if name in places}
        yield from (each for each in found if not each.endswith(("formula._value_and_kept", "formula._gradient")))

    holds(check)
