"""Searches whose trainings take no time: the real loop on real stores, with a training that is a formula."""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from denoise.pictures.grid import grid_png
from denoise.training import train
from search.storages import liveness
from search.study import finish, loop, objective
from search.study.spec import Search

SMALL = [
    *("trainer.max_steps=8", "trainer.val_every=1", "trainer.num_threads=1", "search.enqueue=[]"),
    *("lr_schedule=constant", "search.kinds.lr_schedule=[constant]", "search.kinds.normalization=[group_norm]"),
    *("search.kinds.weight_normalization=[none]", "search.kinds.initializer=[torch_default]"),
    *("search.kinds.feed_forward=[mlp]", "search.confirm.finalists=0"),
]
CHOICES = ["search.kinds.activation=[silu,relu,swish]", "search.kinds.optimizer=[adamw,sgd,lion]"]
NUMBERS = ["search.kinds.activation=[silu]", "search.kinds.optimizer=[adamw]"]
LISTED = [
    *("search.kinds.activation=[silu,relu,gelu]", "search.kinds.optimizer=[adamw]"),
    *("optimizer.space.lr.low=0.002", "optimizer.space.lr.high=0.002", "normalization.space.num_groups.choices=[4,8]"),
    *("optimizer.space.weight_decay.low=0.01", "optimizer.space.weight_decay.high=0.01"),
]


PICTURE = grid_png(torch.zeros(1, 1, 1, 1))


class Killed(BaseException):
    """The process ends here."""


class Silent:
    """A display that shows nothing and keeps what was said."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **more: None


def curve(cfg: Any) -> tuple[float, float]:
    """Level and slope of a config's learning curve: falling, and different for any two configs."""
    optimizer = {name: value for name, value in cfg.optimizer.items() if name != "elementwise"}
    plain = repr((cfg.activation, optimizer, cfg.normalization))
    u = int.from_bytes(hashlib.sha256(plain.encode()).digest()[:4], "big") / 2**32
    return 0.2 + 0.1 * u + abs(float(cfg.optimizer.lr) - 0.003), 0.3 * (u * 17 % 1)


def formula(cfg: Any, module: Any, observer: Any, *args: Any) -> train.Result:
    """In place of a training: level + slope / step, stopped where the observer says so."""
    level, slope = curve(cfg)
    for step in range(cfg.trainer.val_every, cfg.trainer.max_steps + 1, cfg.trainer.val_every):
        value = level + slope / step
        observer.on_metrics(step, {"val/loss": value})
        if observer.on_objective(step, value):
            return train.Result("stopped", step, {"val/loss": value}, {}, "0" * 64)
    return train.Result("complete", step, {"val/loss": value}, {}, "0" * 64, samples=PICTURE)


def a_new_process(monkeypatch: pytest.MonkeyPatch, life: int) -> None:
    """From here on trials are claimed by another process, and the one before is dead."""
    monkeypatch.setattr(liveness, "me", lambda: {"host": liveness.os.uname().nodename, "pid": 1, "began": f"{life}"})


@cache
def asked(*overrides: str) -> Search:
    """The search that overrides ask for; checked once."""
    return loop.prepare(overrides)


def free(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on trials take no time, and keep nothing."""
    for name, stub in (("prepare", lambda cfg: None), ("counted", lambda *args: {}), ("fit", formula)):
        monkeypatch.setattr(train, name, stub)
    monkeypatch.setattr(objective, "_keep", lambda *args: None)


def run(
    store: Path, overrides: list[str], monkeypatch: pytest.MonkeyPatch, pictures: bool = False
) -> tuple[list[Any], Silent]:
    """Search, and return each trial: overrides, state, curve. pictures: those of Optuna too, a page of 5 MB."""
    free(monkeypatch)
    if not pictures:
        monkeypatch.setattr(finish, "for_optuna", lambda *given: None)
    display = Silent()
    prepared = asked(f"store={store}", *SMALL, *overrides)
    study, tracker = loop.open_stores(prepared)
    loop.run(prepared, study, tracker, display, 0.0)  # type: ignore[arg-type]
    return content(study), display


def content(study: Any) -> list[Any]:
    """Each trial of a study: overrides, state, curve."""
    return [(t.user_attrs.get("overrides"), t.state.name, t.intermediate_values) for t in study.trials]


def champion(tracker: Any) -> Any:
    """The champion of the one model that is registered."""
    (model,) = tracker.client.search_registered_models()
    return tracker.client.get_model_version_by_alias(model.name, "champion")
