"""What happens beside the steps of a training: averaging, looking at the loss and the layers, evaluating."""

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Protocol

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from denoise.metrics import LEARNING_RATE, TRAIN_LOSS
from denoise.training import diagnostics
from denoise.training.trainable import Trainable


class Observer(Protocol):
    """Who follows a training: a tracker, a search, a display."""

    def on_step(self) -> None:
        """One more step is done, or one more part of an evaluation: the training has not stopped."""

    def on_metrics(self, step: int, metrics: dict[str, float]) -> None:
        """Take metrics of the training after `step` optimizer steps."""

    def on_objective(self, step: int, value: float) -> bool:
        """Take the objective after `step` steps; True ends the training here."""

    def on_save(self, step: int) -> None:
        """The state after `step` steps is about to be saved: what was reported until now will not come again."""


class Diverged(Exception):
    """The loss is not finite, or far above its start."""

    def __init__(self, step: int, loss: float, layer: str) -> None:
        super().__init__(f"diverged at step {step}: loss {loss:.4g}, first bad layer {layer}")
        self.step, self.loss, self.layer = step, loss, layer


class ExponentialAverage(WeightAveraging):
    """w_ema <- d w_ema + (1 - d) w, d = min(decay, (1 + t) / (10 + t)): Lightning's averaging with a ramp.

    The ramp keeps the first, random weights from lasting; buffers (running averages) are averaged too, whole
    numbers copied. The tensors are listed once and not found anew at each step, which took 1 ms of a step of 25.
    An optimizer with `eval()` and `train()` averages by itself: for each evaluation, and at the end, the averaged
    weights are its own, and only buffers are averaged here.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.pairs: tuple[list[Tensor], list[Tensor]] = ([], [])
        self.whole: tuple[list[Tensor], list[Tensor]] = ([], [])
        self.averaging: Any = None  # the optimizer, where it averages by itself

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None:  # read at every step: on the host it costs no synchronization
            self._average_model.n_averaged = self._average_model.n_averaged.cpu()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self._average_model is not None
        models = (self._average_model.module, pl_module)
        optimizer = trainer.optimizers[0]
        self.averaging = optimizer if hasattr(optimizer, "eval") and hasattr(optimizer, "train") else None
        both = [[*(() if self.averaging else model.parameters()), *model.buffers()] for model in models]
        real = [[t for t in tensors if t.is_floating_point()] for tensors in both]
        rest = [[t for t in tensors if not t.is_floating_point()] for tensors in both]
        self.pairs, self.whole = (real[0], real[1]), (rest[0], rest[1])

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step <= self._latest_update_step:
            return
        assert self._average_model is not None
        t = trainer.global_step - 1
        if self.pairs[0]:
            torch._foreach_lerp_(*self.pairs, 1 - min(self.decay, (1 + t) / (10 + t)) if t else 1.0)
        if self.whole[0]:
            torch._foreach_copy_(*self.whole)
        self._average_model.n_averaged += 1
        self._latest_update_step = trainer.global_step

    @torch.no_grad()
    def take_average(self, module: LightningModule) -> None:
        """Copy an averaging optimizer's own averaged weights; what it trains stays as it is, bit for bit.

        Its way there and back is arithmetic that rounds, so the weights are kept and put back.
        """
        if self.averaging is None:
            return
        assert self._average_model is not None
        now: list[Tensor] = list(module.parameters())
        kept = [parameter.clone() for parameter in now]
        self.averaging.eval()
        torch._foreach_copy_([*self._average_model.module.parameters()], now)
        self.averaging.train()
        torch._foreach_copy_(now, kept)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.take_average(pl_module)
        super().on_validation_epoch_start(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.take_average(pl_module)
        self.averaging = None
        super().on_train_end(trainer, pl_module)


class TrainingMonitor(Callback):
    """Report loss, layers, objective and time to an observer; end a diverging training within one look."""

    def __init__(
        self, observer: Observer | None, log_every: int, health_every: int, diverged_at: float, stop_at: int | None
    ) -> None:
        self.observer = observer
        self.log_every, self.health_every, self.diverged_at = log_every, health_every, diverged_at
        self.stop_at = stop_at
        self.metrics: dict[str, float] = {}
        self.first_loss: float | None = None
        self.stopped = False
        self.steps = 0
        self.training_seconds = 0.0
        self.evaluating_seconds = 0.0
        self.mark: float | None = None  # since when the current stretch of steps runs
        self.warm = (0, 0.0)  # steps and seconds of training that are left out of the rate
        self.flow: diagnostics.LayerFlow | None = None
        self.history: list[tuple[int, dict[str, float]]] = []  # each look at the layers
        self.evaluations = 0
        self.weights_at: dict[int, str] = {}  # at the 1st, 2nd, 4th, 8th ... evaluation and the last one
        self.hooks = ExitStack()
        self.measure: Callable[[], dict[str, float]] = dict  # what the training has cost until now

    def report(self, step: int, metrics: dict[str, float]) -> None:
        """Keep metrics as the last values, and hand them on."""
        self.metrics |= metrics
        if self.observer is not None:
            self.observer.on_metrics(step, metrics)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.mark = time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        assert isinstance(pl_module, Trainable)
        if self.steps == 3:  # the first steps allocate, and compile
            self._pause(pl_module)
            self.warm = (self.steps, self.training_seconds)
            self.mark = time.perf_counter()
        pl_module.watched = trainer.global_step % self.health_every == 0
        if pl_module.watched:
            self.flow = diagnostics.LayerFlow()
            self.hooks.enter_context(
                diagnostics.watching(pl_module.network, diagnostics.is_activation, self.flow.watch)
            )

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        assert isinstance(pl_module, Trainable)
        if pl_module.watched and self.flow is not None:
            self.hooks.close()
            step, backbone = trainer.global_step, pl_module.network
            found = self.flow.metrics() | diagnostics.gradient_norms(backbone) | diagnostics.learned(backbone)
            self.history.append((step, found))
            self.report(step, diagnostics.summary(found))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Trainable)
        step = trainer.global_step
        self.steps += 1
        if self.observer is not None:
            self.observer.on_step()
        if step == 1 or step % self.log_every == 0 or step == trainer.max_steps:
            loss = outputs["loss"].item()
            self.check(step, loss, pl_module)
            self.report(step, {TRAIN_LOSS: loss, LEARNING_RATE: trainer.optimizers[0].param_groups[0]["lr"]})

    def check(self, step: int, loss: float, module: Trainable) -> None:
        """Raise Diverged where the loss is not finite or far above the first one."""
        if self.first_loss is None:
            self.first_loss = loss
        if not loss <= diagnostics.limit(self.first_loss, self.diverged_at) or loss == float("inf"):  # also NaN
            layer = diagnostics.first_bad_layer(module.trained, module.loss_at(step - 1))
            raise Diverged(step, loss, layer.removeprefix("backbone."))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._pause(pl_module)
        self.evaluation_mark = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Trainable)
        step, objective = trainer.global_step, pl_module.objective
        self.evaluating_seconds += time.perf_counter() - self.evaluation_mark
        self.check_objective(step, pl_module)
        self.note_weights(step, pl_module)
        self.report(step, objective | self.measure())
        if self.observer is not None and self.observer.on_objective(step, pl_module.value):
            self.stopped = step < trainer.max_steps
            trainer.should_stop = True
        if self.stop_at is not None and step >= self.stop_at:
            self.stopped = True
            trainer.should_stop = True
        self.mark = time.perf_counter()

    def note_weights(self, step: int, module: Trainable) -> None:
        """Keep what names the weights now, so that two trainings whose settings do the same can be told."""
        if self.evaluations & (self.evaluations - 1):  # no power of two: the one before is the last no more
            self.weights_at.pop(max(self.weights_at))
        self.weights_at[step] = diagnostics.fingerprint(module.trained)
        self.evaluations += 1

    def check_objective(self, step: int, module: Trainable) -> None:
        """Raise Diverged where the objective is not finite, or has the training's scale and is far above its start."""
        if module.comparable or not math.isfinite(module.value):
            self.check(step, module.value, module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._pause(pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.hooks.close()

    def samples_per_second(self, batch_size: int) -> float | None:
        """Training images a second, evaluations and the first steps left out; None after too few steps."""
        steps, seconds = self.steps - self.warm[0], self.training_seconds - self.warm[1]
        return batch_size * steps / seconds if self.warm[0] and steps and seconds > 0 else None

    def _pause(self, module: LightningModule) -> None:
        if module.device.type == "cuda":
            torch.cuda.synchronize(module.device)
        if self.mark is not None:
            self.training_seconds += time.perf_counter() - self.mark
            self.mark = None

    def state_dict(self) -> dict[str, Any]:
        return {"first_loss": self.first_loss, "metrics": self.metrics, "history": self.history} | {
            "weights_at": self.weights_at,
            "evaluations": self.evaluations,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.first_loss, self.metrics = state_dict["first_loss"], state_dict["metrics"]
        self.history = state_dict["history"]
        self.weights_at, self.evaluations = state_dict["weights_at"], state_dict["evaluations"]
