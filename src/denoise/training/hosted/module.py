"""The training of a hosted LightningModule: its training_step on keyed batches, its objective on held-out ones."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from denoise.fault import ends_no_loop
from denoise.metrics import GENERALIZATION_GAP, PARAMETERS, VAL_LOSS
from denoise.randomness import attach, seeded_all
from denoise.training import cost
from denoise.training.hosted.keyed import EVALUATION
from denoise.training.hosted.reading import Splits
from denoise.training.hosted.step import StepHost, loss_of, measured, moved
from denoise.training.hosted.step import attach as attach_trainer
from denoise.training.trainable import Trainable, apart


class HostedModule(Trainable):
    """Train a LightningModule's parameters by its training_step, and evaluate them by `judged_by`.

    judged_by: training_step, or what validation_step logs. The seed and the step decide a batch and all that is drawn
    for it; an evaluation's batches and draws are the same for all seeds.
    """

    scaled = False

    def __init__(self, host: StepHost, splits: Splits, judged_by: str, **more: Any) -> None:
        super().__init__(batch_size=splits.train.batch_size, **more)
        self.host, self.splits, self.judged_by = host, splits, judged_by
        self.comparable = judged_by == "training_step"
        attach(self.host, self.clock)
        attach_trainer(host.net, None, self.max_steps)

    @property
    def network(self) -> nn.Module:
        """Its step."""
        return self.host

    @property
    def trained(self) -> nn.Module:
        """Its step."""
        return self.host

    @property
    def sites(self) -> str:
        """The sites of its step, a line each."""
        return self.host.listing

    def weights(self) -> dict[str, Tensor]:
        """By the names that the module itself has."""
        return apart(self.host.net.state_dict())

    def counted(self) -> dict[str, float]:
        """Parameters, and the share of the sites that options reach."""
        reached = {f"reach/{kind}": share for kind, share in self.host.reached().items()}
        return reached | {PARAMETERS: cost.parameters(self.host)}

    def setup(self, stage: str) -> None:
        try:
            trainer = self.trainer
        except RuntimeError:  # none yet: a look before the training
            trainer = None
        attach_trainer(self.host.net, trainer, self.max_steps)

    def loss_at(self, step: int) -> Callable[[], Tensor]:
        """The loss of a step's batch, with the same draws at each call."""
        return lambda: self._loss(step)

    def _loss(self, step: int) -> Tensor:
        batch = self.splits.train.at(self.seed, step)
        with seeded_all(self.seed, "hosted/step", step, self.device):
            batch = moved(batch, self.device, self.host.net, self.splits.hooks)
            return loss_of(self.host(batch, self.splits.train.place(step)[1]), type(self.host.net).__name__)

    @ends_no_loop
    def training_step(self, batch: int, batch_idx: int) -> Tensor:
        self.clock.step = self.global_step
        return self._loss(self.global_step)

    def _evaluate(self, split: str, examples: int) -> Tensor:
        """The objective on each batch of an evaluation: (n,) float64."""
        values = []
        with parametrize.cached():
            for case, number in enumerate(self.splits.cases(split, examples)):
                with seeded_all(EVALUATION, f"hosted/{split}/move", case, self.device):
                    batch = moved(self.splits.batch(split, number), self.device, self.host.net, self.splits.hooks)
                values.append(measured(self.host, batch, case, self.judged_by, f"hosted/{split}/step"))
        return torch.tensor(values, dtype=torch.float64)

    @ends_no_loop
    def validation_step(self, batch: int, batch_idx: int) -> None:
        value = self._evaluate("validation", self.val_samples).mean().item()
        self.objective = {VAL_LOSS: value}
        if self.gap_samples:
            gap = value - self._evaluate("train", self.gap_samples).mean().item()
            self.objective[GENERALIZATION_GAP] = gap

    @ends_no_loop
    def test_step(self, batch: int, batch_idx: int) -> None:
        """Evaluate the batches that no search has seen; a batch is what its cases share."""
        image = torch.tensor(self.splits.cases("test", self.test_samples))
        self.tested = {"losses": self._evaluate("test", self.test_samples), "image": image}
