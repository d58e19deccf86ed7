"""What a training asks of the LightningModule that it trains: a denoiser's, or one that hosts the user's own."""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from denoise.initializer.stage import Report
from denoise.metrics import VAL_LOSS
from denoise.optimizer import joined, parameter_groups
from denoise.randomness import Clock, key, of_part


class Steps:
    """A loader of numbers only: a step finds its own batch by its number, so a resumed run cannot lose its place."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.count))


class Trainable(LightningModule):
    """A step finds its batch by its number and keys every draw by the seed and the number: it can be taken again.

    - network: what surgery and looks at layers are about; trained: what holds all parameters that are trained.
    - scaled: whether the loss is 1 where nothing is known, as a denoiser's is; comparable: whether the objective has
      the scale of the training's loss.
    - objective: val/loss and what else an evaluation found; tested: of each test case its loss, float64, and the number
      of what other cases share with it; start: what an initializer's second stage did; watched: whether the layers are
      looked at in this step.
    """

    scaled = True
    comparable = True

    def __init__(
        self,
        make_optimizer: Callable[[Any], Optimizer],
        make_lr_schedule: Callable[[Optimizer, int], LRScheduler],
        seed: int,
        batch_size: int,
        max_steps: int,
        val_samples: int,
        gap_samples: int = 0,
        test_samples: int = 0,
        elementwise: bool = False,
    ) -> None:
        super().__init__()
        self.make_optimizer, self.make_lr_schedule, self.elementwise = make_optimizer, make_lr_schedule, elementwise
        self.seed, self.batch_size, self.max_steps = seed, batch_size, max_steps
        self.val_samples, self.gap_samples, self.test_samples = val_samples, gap_samples, test_samples
        self.clock = Clock(seed)
        self.start: list[Report] = []
        self.tested: dict[str, Tensor] = {}
        self.objective: dict[str, float] = {}
        self.watched = False

    @property
    def network(self) -> nn.Module:
        """The raw network."""
        raise NotImplementedError

    @property
    def trained(self) -> nn.Module:
        """The network and what stands around it."""
        raise NotImplementedError

    def weights(self) -> dict[str, Tensor]:
        """The weights by name, as they are kept."""
        return apart(self.trained.state_dict())

    def loss_at(self, step: int) -> Callable[[], Tensor]:
        """Draw what a step trains on; its mean loss as a function, the same at each call for the same weights."""
        raise NotImplementedError

    def counted(self) -> dict[str, float]:
        """What it costs, told before the first step, and the share of its sites that options reach."""
        raise NotImplementedError

    @property
    def sites(self) -> str:
        """The sites of a network that is not ours, a line each."""
        return ""

    @property
    def test_loss(self) -> float:
        """The mean over the test cases."""
        return self.tested["losses"].mean().item()

    @property
    def value(self) -> float:
        """The objective."""
        return self.objective[VAL_LOSS]

    def key_others(self, name: str) -> None:
        """Key torch's global generators: what is not ours, such as torch.nn.RReLU, draws from them."""
        torch.manual_seed(key(self.seed, of_part(f"others/{name}", self.clock.part), self.global_step))

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip by the norm of all gradients together, or each entry by its value; None: not at all.

        Lightning's own clipping refuses fused optimizers in mixed precision, which matters for 16 bits only.
        """
        if gradient_clip_val is None:
            return
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if gradient_clip_algorithm == "value":
            nn.utils.clip_grad_value_(parameters, gradient_clip_val)
        else:
            nn.utils.clip_grad_norm_(parameters, gradient_clip_val)

    def train_dataloader(self) -> Steps:
        return Steps(self.max_steps)

    def val_dataloader(self) -> Steps:
        return Steps(1)

    def test_dataloader(self) -> Steps:
        return Steps(1)

    def configure_optimizers(self) -> Any:
        groups = parameter_groups(self.trained)
        optimizer = joined(self.make_optimizer, groups) if self.elementwise else self.make_optimizer(groups)
        schedule = self.make_lr_schedule(optimizer, self.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def apart(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a state; those that share memory with another are copied: a file has each by itself."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in state.items():
        if isinstance(tensor, Tensor):
            shared = tensor.untyped_storage().data_ptr() in seen
            seen.add(tensor.untyped_storage().data_ptr())
            found[name] = tensor.detach().clone() if shared else tensor.detach()
    return found


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning's hints about hardware and loaders off the terminal: here they are wrong or known."""
    names = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*before.*optimizer.step.*")
        yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)
