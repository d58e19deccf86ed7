"""The LightningModule: what one training step and one evaluation are, every draw from a keyed stream."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from denoise.data.batches import Batches
from denoise.data.images import Images
from denoise.denoiser.edm import LogNormal
from denoise.denoiser.preconditioned import Denoiser
from denoise.fault import ends_no_loop
from denoise.foreign.host import Host
from denoise.metrics import FLOPS_PER_STEP, GENERALIZATION_GAP, PARAMETERS, VAL_LOSS
from denoise.model.embedding import NO_CLASS
from denoise.randomness import attach, seeded, stream
from denoise.training import cost
from denoise.training.trainable import Trainable

BANDS = 4
EVALUATED = 2  # batches of a training at once: without gradients little of one is kept


class FixedSet:
    """A fixed set of (image, sigma, noise) triples of one split, spread evenly over the noise distribution.

    The i-th of n triples has the noise level at quantile (i + 1/2) / n, so the k-th quarter of them is the k-th
    noise band. Which image (`order`) and which noise it has is the same for every trial, whatever its seed.
    """

    def __init__(
        self,
        data: Images,
        ruler: LogNormal,
        count: int,
        split: str = "validation",
        device: torch.device | None = None,
    ) -> None:
        self.order = torch.randperm(count, generator=stream(0, f"{split}/order")) % len(data.images[split])
        images = data.look_up(split, self.order)
        device = device or images.device
        self.images = images.to(device)
        self.labels = _rows(data.labels[split], self.order).to(device)
        self.conditions = {n: _rows(arrays[split], self.order).to(device) for n, arrays in data.conditions.items()}
        self.sigma = ruler.sigma((torch.arange(count, dtype=torch.float64) + 0.5) / count).float().to(device)
        self.noise = torch.randn(images.shape, generator=stream(0, f"{split}/noise")).to(device)

    def parts(self, size: int) -> list[slice]:
        """Divide into batches of at most so many, each with noise levels from end to end, as a training's have."""
        count = -(-len(self.sigma) // size)
        return [slice(first, None, count) for first in range(count)]

    def __deepcopy__(self, memo: object) -> "FixedSet":
        return self


def _rows(array: Tensor, index: Tensor) -> Tensor:
    return array[index.to(array.device)]


def _part(drawn: Any, count: int, part: int) -> Any:
    """One of `count` parts of what a step draws."""
    if isinstance(drawn, dict):
        return {name: _part(each, count, part) for name, each in drawn.items()}
    return None if drawn is None else drawn.chunk(count)[part]


class DenoiseModule(Trainable):
    """Train a denoiser on keyed batches, noise levels and noise, and evaluate it by the ruler.

    `memory_format` is that of the weights and the images. With `compiled` the denoiser's loss runs through
    torch.compile, but for the sampled steps on which layers are watched. With `elementwise` the optimizer gets the
    parameters as one tensor a group. `accumulate`: a batch is trained on in so many parts, one after the other.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        ruler: LogNormal,
        data: Images,
        make_optimizer: Callable[[Any], Optimizer],
        make_lr_schedule: Callable[[Optimizer, int], LRScheduler],
        seed: int,
        batch_size: int,
        max_steps: int,
        val_samples: int,
        gap_samples: int = 0,
        test_samples: int = 0,
        class_conditional: bool = False,
        class_dropout: float = 0.0,
        accumulate: int = 1,
        compiled: bool = False,
        elementwise: bool = False,
        memory_format: torch.memory_format = torch.channels_last,
    ) -> None:
        super().__init__(
            make_optimizer,
            make_lr_schedule,
            seed,
            batch_size,
            max_steps,
            val_samples,
            gap_samples,
            test_samples,
            elementwise,
        )
        self.denoiser = denoiser.to(memory_format=memory_format)  # type: ignore[call-overload]
        self.ruler, self.data = ruler, data
        self.accumulate = accumulate
        self.class_conditional, self.class_dropout = class_conditional, class_dropout
        self.format = memory_format
        attach(self.denoiser, self.clock)
        self.batches = Batches(data, batch_size, seed)
        self.triples: FixedSet | None = None
        self.seen: FixedSet | None = None  # of training images, for the generalization gap
        self.losses: list[Tensor] = []
        self.fast_loss = torch.compile(self.denoiser.loss) if compiled else self.denoiser.loss

    @property
    def network(self) -> nn.Module:
        """The backbone."""
        return self.denoiser.backbone

    @property
    def trained(self) -> nn.Module:
        """The denoiser."""
        return self.denoiser

    def setup(self, stage: str) -> None:
        self.data = self.data.to(self.device)
        self.batches = Batches(self.data, self.batch_size, self.seed, self.device)
        self.triples = self._fixed(self.val_samples, "validation")
        self.seen = self._fixed(self.gap_samples, "train") if self.gap_samples else None

    def _fixed(self, count: int, split: str) -> FixedSet:
        return FixedSet(self.data, self.ruler, count, split, self.device)

    def draw(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor | None, dict[str, Tensor] | None]:
        """Draw what an optimizer step trains on: images, sigma, noise, labels or None, conditions or None."""
        taken = self.denoiser.conditions
        conditions = self.batches.conditions(step, taken) if taken else None
        images, labels = self.batches(step)
        images = images.contiguous(memory_format=self.format)
        u = torch.rand(len(images), generator=stream(self.seed, "sigma", step, self.device), device=self.device)
        sigma = self.denoiser.sigma(u.clamp(1e-6, 1 - 1e-6))
        noise = torch.empty_like(images).normal_(generator=stream(self.seed, "noise", step, self.device))
        if not self.class_conditional:
            return images, sigma, noise, None, conditions
        if self.class_dropout:
            u = torch.rand(len(labels), generator=stream(self.seed, "labels", step, self.device), device=self.device)
            labels = labels.where(u >= self.class_dropout, NO_CLASS)
        return images, sigma, noise, labels, conditions

    @ends_no_loop
    def training_step(self, batch: int, batch_idx: int) -> Tensor:
        """The mean loss of the step's batch; of one in parts, the gradients of all but the last are there."""
        self.clock.step = self.global_step
        loss = self.denoiser.loss if self.watched else self.fast_loss
        drawn, count = self.draw(self.global_step), self.accumulate
        if count == 1:
            self.key_others("training")
            return loss(*drawn).mean()
        self.trainer.optimizers[0].zero_grad()
        total = torch.zeros((), device=self.device)
        for part in range(count):
            self.clock.part = part
            self.key_others("training")
            mean = loss(*(_part(each, count, part) for each in drawn)).mean() / count
            total += mean.detach()
            if part < count - 1:
                mean.backward()
        self.clock.part = 0
        return mean + (total - mean.detach())

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Lightning's hook, called after a step's loss: gradients of parts that are there already stay."""
        if self.accumulate == 1:
            optimizer.zero_grad()

    @torch.enable_grad()
    def curvature(self, parameters: list[Tensor]) -> list[Tensor]:
        """Estimate the Gauss-Newton diagonal of this step's loss, for an optimizer that wants it.

        The probe has a stream of its own, and running averages are put back: asking changes nothing else.
        """
        step = self.clock.step
        images, sigma, noise, labels, conditions = self.draw(step)
        probe = torch.empty_like(images).normal_(generator=stream(self.seed, "curvature", step, self.device))
        kept = [(buffer, buffer.clone()) for buffer in self.denoiser.buffers()]
        found = self.denoiser.curvature(parameters, images, sigma, noise, labels, probe, conditions)
        for buffer, before in kept:
            buffer.data.copy_(before)
        return found

    @ends_no_loop
    def validation_step(self, batch: int, batch_idx: int) -> None:
        """Evaluate all triples: the weights stay, so what a weight normalization makes of them is made once."""
        self.key_others("validation")
        with parametrize.cached():
            self.losses = [self._losses(triples) for triples in (self.triples, self.seen) if triples is not None]

    def _losses(self, triples: FixedSet) -> Tensor:
        losses = torch.empty_like(triples.sigma)
        for part in triples.parts(EVALUATED * self.batch_size):
            images = triples.images[part].contiguous(memory_format=self.format)
            labels = triples.labels[part] if self.class_conditional else None
            sigma, noise = triples.sigma[part], triples.noise[part]
            conditions = {name: triples.conditions[name][part] for name in self.denoiser.conditions} or None
            error = self.denoiser.error(images, sigma, noise, labels, conditions)
            losses[part] = self.ruler.loss_weight(sigma) * error
        return losses

    def on_validation_epoch_end(self) -> None:
        unseen, *seen = (losses.double() for losses in self.losses)
        values = torch.stack([losses.mean() for losses in (unseen, *unseen.tensor_split(BANDS), *seen)]).tolist()
        self.objective = {VAL_LOSS: values[0]}
        self.objective |= {f"val/loss_band_{k}": value for k, value in enumerate(values[1 : BANDS + 1])}
        if seen:
            self.objective[GENERALIZATION_GAP] = values[0] - values[-1]

    @torch.no_grad()
    def first_loss(self) -> float:
        """val/loss of the weights as they are; nothing else is changed."""
        was_training = self.denoiser.training
        self.denoiser.eval()
        with parametrize.cached(), seeded(self.seed, "others/first"):
            found = self._losses(self._fixed(self.val_samples, "validation")).double().mean().item()
        self.denoiser.train(was_training)
        return found

    @ends_no_loop
    def test_step(self, batch: int, batch_idx: int) -> None:
        """Evaluate the triples of test images, which no search has seen."""
        triples = self._fixed(self.test_samples, "test")
        self.key_others("test")
        with parametrize.cached():
            self.tested = {"losses": self._losses(triples).double().cpu(), "image": triples.order}

    def loss_at(self, step: int) -> Callable[[], Tensor]:
        """The mean loss of what a step draws, with the same draws at each call."""
        inputs = self.draw(step)
        return lambda: self.denoiser.loss(*inputs).mean()

    def counted(self) -> dict[str, float]:
        """Parameters, operations of a step, and the share of the sites that options reach."""
        classes = self.data.num_classes if self.class_conditional else 0
        told = self.data.told(self.denoiser.conditions, "train", torch.zeros(2, dtype=torch.int64))
        reached = self.network.reached() if isinstance(self.network, Host) else {}
        return {f"reach/{kind}": share for kind, share in reached.items()} | {
            PARAMETERS: cost.parameters(self.denoiser),
            FLOPS_PER_STEP: cost.flops_per_step(self.denoiser, self.batch_size, self.data.shape, classes, told),
        }

    @property
    def sites(self) -> str:
        """Those of a network that is not ours, a line each."""
        return self.network.listing if isinstance(self.network, Host) else ""

    def configure_optimizers(self) -> Any:
        made = super().configure_optimizers()
        if hasattr(made["optimizer"], "curvature"):
            made["optimizer"].curvature = self.curvature
        return made
