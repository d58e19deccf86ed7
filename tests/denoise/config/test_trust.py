"""What may be a `_target_` is said positively: each callable of the libraries is held against a second statement."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import lightning
import optuna
import pytest
import torch
import yaml

import search
from denoise.config import catalog, trust
from denoise.config.moved import now
from denoise.errors import UserError
from search.__main__ import main
from tests.tiny import TINY

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.faults]
KINDS = sorted({path.parent.name for path in catalog.CONF.glob("*/*.yaml") if "\n_target_: " in path.read_text()})
WALKED = ["torch.nn", "torch.optim", "torch.utils", "optuna", "lightning.pytorch", "denoise", "search"]
BASES = {  # kind -> where such a class is defined, and what it is
    **{kind: [("torch.nn.modules.", torch.nn.Module)] for kind in ("activation", "normalization", "feed_forward")},
    "optimizer": [("torch.optim.", torch.optim.Optimizer), ("pytorch_optimizer.optimizer.", torch.optim.Optimizer)],
    "lr_schedule": [("torch.optim.lr_scheduler.", torch.optim.lr_scheduler.LRScheduler)],
    "sampler": [("optuna.samplers.", optuna.samplers.BaseSampler)],
    "pruner": [("optuna.pruners.", optuna.pruners.BasePruner)],
}
DANGEROUS = [
    *("torch._inductor.codecache.PyCodeCache.load", "torch._inductor.codecache.CppCodeCache.load", "torch.compile"),
    *(
        "torch.load",
        "torch.save",
        "torch.hub.load",
        "torch.jit.load",
        "torch.package.PackageImporter",
        "torch.os.system",
    ),
    *("torch.utils.cpp_extension.load_inline", "torch._dynamo.optimize", "torch.export.load", "torch.library.Library"),
    *("torch.ops.load_library", "torch.classes.load_library", "torch.serialization.load", "torch.sys.exit"),
    *("torch.distributed.run.main", "torch.multiprocessing.spawn", "torch.nn.Module.load_state_dict"),
    *("torch.nn.parallel.DataParallel", "torch.nn.utils.parametrize.register_parametrization", "torch.nn.Module.apply"),
    *("torch.nn.modules.module.Module.register_forward_hook", "torch.nn.modules.module.OrderedDict"),
    *("lightning.pytorch.Trainer", "lightning.pytorch.cli.LightningCLI", "lightning.Trainer", "lightning.Fabric"),
    *("lightning.pytorch.cli.instantiate_class", "lightning.pytorch.cli.import_from_string"),
    *(
        "optuna.storages.RDBStorage",
        "optuna.load_study",
        "optuna.create_study",
        "optuna.artifacts.FileSystemArtifactStore",
    ),
    *(
        "denoise.training.train.main",
        "denoise.training.train.sample",
        "denoise.config.catalog.call",
        "denoise.config.trust.allow",
        "denoise.data.images.load",
    ),
    *(
        "search.cli.mlflow_server.serve",
        "search.runtime.startup.leave",
        "search.samplers.tpe.group",
        "search.pruners.funnel.Curves",
    ),
    *(
        "os.system",
        "builtins.eval",
        "builtins.open",
        "subprocess.run",
        "pathlib.Path.unlink",
        "importlib.import_module",
    ),
]


@cache
def declared(kind: str) -> set[str]:
    """What the files of conf/KIND name, read as YAML."""

    def within(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            yield from [node["_target_"]] if "_target_" in node else []
            for each in node.values():
                yield from within(each)

    return {name for path in (catalog.CONF / kind).glob("*.yaml") for name in within(yaml.safe_load(path.read_text()))}


SOME = {kind: min(declared(kind)) for kind in KINDS}


def walked(package: str) -> Iterator[ModuleType]:
    """A package and what of it imports, three levels down."""
    top = importlib.import_module(package)
    yield top
    for _, name, _ in pkgutil.walk_packages(top.__path__, f"{package}."):
        if name.count(".") <= 4 and "__main__" not in name and "test" not in name:
            try:
                yield importlib.import_module(name)
            except Exception:  # what is not installed here
                continue


def callables() -> dict[str, Any]:
    """The name of everything that can be called in what is walked, and the methods of its classes."""
    found: dict[str, Any] = {}
    for module in [torch, lightning, search, *(each for package in WALKED for each in walked(package))]:
        for name in dir(module):
            value = getattr(module, name, None)
            if callable(value):
                found[f"{module.__name__}.{name}"] = value
                for method in ("load", "apply", "from_checkpoint", "load_state_dict") if inspect.isclass(value) else ():
                    if callable(getattr(value, method, None)):
                        found[f"{module.__name__}.{name}.{method}"] = getattr(value, method)
    return found


def right(name: str, value: Any, kind: str) -> bool:
    """The rule once more: what our files name; a class of a library's package, by a name there or right above."""
    if now(name) in declared(kind):
        return True
    place = f"{name.rpartition('.')[0]}."
    for package, base in BASES.get(kind, ()):
        if (
            (place.startswith(package) or package.startswith(place))
            and inspect.isclass(value)
            and issubclass(value, base)
        ):
            return f"{value.__module__}.".startswith(package) and "<locals>" not in value.__qualname__
    return False


def test_a_callable_is_legal_exactly_where_its_definition_says_so() -> None:
    """For every kind, over all that the formerly trusted packages hold."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = callables()
    assert len(found) > 10_000
    for kind in KINDS:
        legal = set()
        for name in found:
            with suppress(UserError, ImportError):
                trust.find(name, (kind,), "here")
                legal.add(name)
        wrong = legal ^ {name for name, value in found.items() if right(name, value, kind)}
        assert not wrong, f"{kind}: {len(wrong)}, such as {sorted(wrong)[:5]}"
        assert legal >= declared(kind) and not legal & set(DANGEROUS)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_dangerous_is_refused_for_every_kind_and_nested(kind: str) -> None:
    for target in DANGEROUS:
        nested = {"_target_": SOME[kind], "x": [{"y": {"_target_": target}}]}
        for node in ({"_target_": target}, nested):
            with pytest.raises(UserError) as refused:
                catalog.call(node, kind=kind)
            assert "\n" not in str(refused.value) and target in str(refused.value)
    for key in ("_args_", "_partial_", "_recursive_", "_convert_"):
        node = {"_target_": SOME[kind], "gate": {"_target_": "torch.nn.GELU", key: []}}
        with pytest.raises(UserError, match=key):
            catalog.call(node, kind=kind)


@pytest.mark.parametrize("way", ["typed", "nested", "file", "file nested"])
def test_no_dangerous_name_is_taken_from_the_command_or_a_file(
    way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, target in enumerate(DANGEROUS[:12] if "file" in way else DANGEROUS[:6]):
        if "file" in way:
            home = tmp_path / str(number)
            (home / "activation").mkdir(parents=True)
            inner = f"torch.nn.Softplus\nbeta: {{_target_: {target}}}" if "nested" in way else target
            (home / "activation" / f"mine{number}.yaml").write_text(f"# f\n# s\n_target_: {inner}\nspace: {{}}\n")
            arguments = ["train", "--config-dir", str(home), f"activation=mine{number}"]
        elif way == "typed":
            arguments = ["train", f"activation._target_={target}"]
        else:
            arguments = ["train", "feed_forward=geglu", f"feed_forward.gate._target_={target}"]
        assert main([*arguments, *TINY, f"store={tmp_path / 'runs'}"]) == 2
        err = capsys.readouterr().err
        assert len(err.splitlines()) == 1 and target in err and "not trusted" in err
        catalog._folders[:] = catalog._folders[-1:]


def test_nothing_is_imported_for_a_name_that_may_not_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs_at_import.py").write_text("raise SystemExit(3)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("runs_at_import.f", "runs_at_import", "torch.nn.modules.runs_at_import.f", "os.x.runs_at_import"):
        with pytest.raises(UserError):
            catalog.call({"_target_": name}, kind="activation")
    code = "import sys\nfrom denoise.config.catalog import KINDS, entry, options\n"
    code += "assert all(entry(k, o) for k in KINDS for o in options(k)) and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


HOSTILE = {
    "allow": "allow: [os., posix.]\nactivation: {_target_: os.system, command: touch MADE}\n",
    "target": "activation: {_target_: torch._inductor.codecache.PyCodeCache.load, source_code: open('MADE', 'w')}\n",
    "own code": "activation: {_target_: evil.Evil}\n",
    "a default": "defaults: [train, {activation: evil}, _self_]\n",
    "another root": "defaults: [evil, _self_]\n",
    "hydra": "hydra: {searchpath: ['file:///']}\n",
    "a resolver": "data: {sigma_data: '${oc.env:HOME}'}\n",
    "a list": "[]\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_somebodys_best_yaml_runs_nothing(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, text = tmp_path / "made", HOSTILE[name]
    (tmp_path / "evil.py").write_text(
        f"import torch\nopen({str(made)!r}, 'w')\n\nclass Evil(torch.nn.SiLU):\n    pass\n"
    )
    (tmp_path / "activation").mkdir()
    (tmp_path / "activation" / "evil.yaml").write_text("# f\n# s\n_target_: evil.Evil\nspace: {}\n")
    (tmp_path / "evil.yaml").write_text("defaults: [train, _self_]\nallow: [os.]\n")
    head = "" if text.startswith(("defaults", "[")) else "defaults: [train, _self_]\n"
    (tmp_path / "best.yaml").write_text(head + text.replace("MADE", str(made)))
    assert main(["train", "--config-dir", str(tmp_path), "--config-name", "best", *TINY]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and "best.yaml" in err, err
    assert not made.exists() and tmp_path not in trust.homes and str(tmp_path) not in sys.path
    assert not trust.allowed


@pytest.mark.parametrize("place", ["an option", "an experiment", "a record"])
def test_only_the_command_and_a_named_root_config_allow(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    group, text = {
        "an option": ("activation", "# f\n# s\n# @package _global_\n_target_: torch.nn.ReLU\nallow: [os.]\n"),
        "an experiment": ("experiment", "# @package _global_\nallow: [os.]\n"),
        "a record": ("trainer", "defaults: [default, _self_]\n"),
    }[place]
    (tmp_path / group).mkdir()
    (tmp_path / group / "mine.yaml").write_text(text)
    arguments = ["train", "--config-dir", str(tmp_path), f"{group}=mine", "optimizer._target_=os.system", *TINY]
    assert main(arguments) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1 and not trust.allowed
