"""The step of a LightningModule as a network: run with keyed draws, its sites found in it, what it logs kept."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor, nn

from denoise.config.legal import named_parts
from denoise.errors import UserError
from denoise.fault import line
from denoise.foreign.census import as_before
from denoise.foreign.host import Host
from denoise.foreign.operate import Operation, put
from denoise.foreign.sites import Site, find
from denoise.process_state import steady
from denoise.randomness import seeded_all
from denoise.training.hosted.keyed import EVALUATION
from denoise.training.trainable import quiet

FROZEN = "stands in a frozen module"
IN_STEP = "called in the step itself, outside a module of its own"
MOVES = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")


class StepHost(Host):
    """The step of a LightningModule: (batch, its number, which step) -> what it returns, and what it logs meanwhile.

    - net: the module, one that is `heard`; look: a batch on its device, on which training_step runs to find its sites.
    - parts: names, each with patterns of module paths.
    """

    without = ("denoiser",)

    def __init__(self, net: LightningModule, look: Any, parts: Any = None) -> None:
        nn.Module.__init__(self)
        self.net: Any = net
        self.listing = ""
        self.named, self.conditions = named_parts({"parts": parts}), ()
        self._batch = look
        self.sites, self.taken = find(self, self.run)
        self.taken.output = None
        self.sites = [self._left(replace(s, module=s.module.removeprefix("net").lstrip("."))) for s in self.sites]
        self._place()

    def forward(self, batch: Any, number: int = 0, step: str = "training_step") -> Any:  # type: ignore[override]
        return getattr(self.net, step)(batch, number)

    def run(self) -> Any:
        """Take the step that the module was met with."""
        with seeded_all(0, "hosted/look"):
            return self(self._batch)

    def operate(self, parts: Any) -> Operation:
        """Put the components of `parts` in where the step reaches them; what is None there stays as built."""
        done = put(self, self.sites, self.taken, parts)
        self.listing = done.text()
        return done

    def _left(self, site: Site) -> Site:
        """A site, with what keeps it from being replaced here."""
        call = site.call
        if site.why or call is None:
            return site
        if call.owner is self and isinstance(call.what, str):
            return replace(site, why=IN_STEP)
        around = [*call.above, *([call.what] if isinstance(call.what, nn.Module) else [])]
        return replace(site, why=FROZEN) if any(map(is_frozen, around)) else site


def moved(batch: Any, device: torch.device, net: LightningModule, hooks: LightningDataModule | None) -> Any:
    """A batch on a device, by the hooks of the data module or of the module that are for that."""
    if hooks is not None:
        hooks.trainer = net.trainer
    before, move, after = (
        getattr(hooks if hooks is not None and is_overridden(name, hooks) else net, name) for name in MOVES
    )
    return after(move(before(batch, 0), device, 0), 0)


def is_frozen(module: nn.Module) -> bool:
    """Whether a module has parameters, none of which is trained."""
    parameters = list(module.parameters())
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)


def loss_of(output: Any, who: str) -> Tensor:
    """The loss in what training_step returned: a tensor of one number, or that under "loss". Errors: UserError."""
    found = output.get("loss") if isinstance(output, Mapping) else output
    where = f"{who}.training_step"
    if found is None:
        raise UserError(
            f"{where} returned {'no loss' if output is not None else None}; return the loss, or a dict with it"
        )
    if not isinstance(found, Tensor) or found.numel() != 1:
        what = f"a tensor of {'x'.join(map(str, found.shape))}" if isinstance(found, Tensor) else type(found).__name__
        raise UserError(f"{where} returned {what}; return a loss of one number, or a dict with one as loss")
    return found.reshape(())


@cache
def _heard(cls: Any) -> Any:
    """A class below a module's own: while `logged` is a mapping it keeps what is logged, and writes nothing."""

    class Heard(cls):  # type: ignore[misc]
        logged: dict[str, Any] | None = None
        epoch_steps = 1

        def log(self, name: str, value: Any, *args: Any, **more: Any) -> None:
            if self.logged is None:
                super().log(name, value, *args, **more)
            else:
                self.logged[name] = value

        def log_dict(self, dictionary: Any, *args: Any, **more: Any) -> None:
            if self.logged is None:
                super().log_dict(dictionary, *args, **more)
            else:
                self.logged.update(dictionary.items())

        @property
        def logger(self) -> Any:
            return super().logger if self.logged is None else DummyLogger()

        @property
        def loggers(self) -> Any:
            return super().loggers if self.logged is None else [DummyLogger()]

        @property
        def current_epoch(self) -> int:
            return super().current_epoch if self.logged is None else self.global_step // self.epoch_steps

    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(Heard, name, getattr(cls, name))
    return Heard


def heard(net: LightningModule, epoch_steps: int) -> LightningModule:
    """Keep what a module logs, and count its epochs by its own batches; all else of it stays."""
    found: Any = net
    found.__class__ = _heard(found.__class__)
    found.logged, found.epoch_steps = {}, epoch_steps
    return net


def unheard(net: Any) -> None:
    """Let a module log as before, to a trainer of its own."""
    net.logged = net.trainer = None


class StandIn(Trainer):
    """A trainer before there is one."""

    @property
    def estimated_stepping_batches(self) -> int:
        """The steps of the training."""
        return self.max_steps


def attach(net: LightningModule, trainer: Trainer | None, max_steps: int) -> None:
    """Give a module a trainer to ask, the training's own or, before there is one, one that stands in for it."""
    if trainer is None:
        with quiet():
            trainer = StandIn(
                accelerator="cpu",
                max_steps=max_steps,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            trainer.strategy.optimizers = [torch.optim.SGD(net.parameters(), 0.0)]  # whose lr a step may log
    net.trainer = trainer


def measured(host: StepHost, batch: Any, number: int, objective: str, name: str) -> float:
    """The objective on one held-out batch, in evaluation mode and without gradients, its draws keyed.

    Of a metric that is logged: its validation_step on the batch as an epoch of its own, with the hooks that begin and
    end one. Errors: UserError where it is not logged.
    """
    net: Any = host.net
    with torch.inference_mode(False), torch.no_grad(), seeded_all(EVALUATION, name, number, net.device):
        if objective == "training_step":
            return loss_of(host(batch, number), type(net).__name__).item()
        return logged(host, batch, number, objective)


def logged(host: StepHost, batch: Any, number: int, objective: str) -> float:
    """What validation_step logs under a name. Errors: UserError."""
    net: Any = host.net
    net.logged.clear()
    net.on_validation_epoch_start()
    host(batch, number, "validation_step")
    net.on_validation_epoch_end()
    numbers = {name: _number(value) for name, value in net.logged.items()}
    for metric in (module for module in net.modules() if callable(getattr(module, "compute", None))):
        metric.reset()
    found = numbers.get(objective)
    if found is None:
        said = ", ".join(sorted(name for name, value in numbers.items() if value is not None)) or "nothing"
        raise UserError(
            f"model.objective={objective}: {type(net).__name__}.validation_step never logs it; it logs {said}; "
            "legal: one of these, or training_step"
        )
    return found


def _number(value: Any) -> float | None:
    """What was logged as a number: of a metric of torchmetrics what it computes."""
    value = value.compute() if callable(getattr(value, "compute", None)) else value
    if isinstance(value, Tensor):
        return value.item() if value.numel() == 1 else None
    return float(value) if isinstance(value, int | float) else None


def tried(net: nn.Module, what: str, step: Callable[[], Any]) -> Any:
    """What a step returns, tried on a module as it is, which is put back. Errors: UserError in the step's own words."""
    with as_before(net), steady():
        try:
            return step()
        except UserError:
            raise
        except Exception as error:  # whatever the user's own code says
            raise UserError(f"model: {what}: {line(error)}") from error
