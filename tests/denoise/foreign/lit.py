"""LightningModules and loaders as people write them, and some that are refused."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset


class Net(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, width, 3, padding=1), nn.GroupNorm(2, width)
        self.time, self.last = nn.Linear(1, width), nn.Conv2d(width, 1, 3, padding=1)
        self.drop = nn.Dropout(0.1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h = self.norm(self.first(x)) + functional.silu(self.time(t[:, None]))[:, :, None, None]
        return self.last(self.drop(functional.silu(h)))


class Lit(LightningModule):
    """A flow of its own behind a frozen encoder, and a scale that its optimizer does not take."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = Net(width)
        self.encoder = nn.Sequential(nn.Conv2d(1, 1, 1), nn.SiLU())
        self.encoder.requires_grad_(False)
        self.scale = nn.Parameter(torch.ones(()))

    def loss(self, batch: Any) -> Tensor:
        x = self.encoder(batch[0]) * self.scale
        t, noise = torch.rand(len(x), device=x.device), torch.randn_like(x)
        return functional.mse_loss(self.net(x + t[:, None, None, None] * noise, t), noise)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.log("train/loss", loss, prog_bar=True)
        self.logger.experiment.add_scalar("loss", loss, self.global_step)
        self.log("lr", self.optimizers().param_groups[0]["lr"])
        return {"loss": loss}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log_dict({"val/loss": self.loss(batch), "val/mean": batch[0].mean()}, sync_dist=True)

    def on_train_batch_end(self, *args: Any) -> None:
        raise AssertionError("an average of its own, which is not run")

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.net.parameters(), 1e-3)
        return [optimizer], [torch.optim.lr_scheduler.ConstantLR(optimizer)]


class Itself(Lit):
    """Loads its own data, and calls functions where they stand."""

    def __init__(self) -> None:
        super().__init__()
        self.act, self.line = nn.SiLU(), nn.Conv2d(1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.gelu(self.line(x))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return (self(self.act(batch[0])) - functional.silu(batch[0])).square().mean()

    def configure_optimizers(self) -> Any:
        assert self.trainer.estimated_stepping_batches == self.trainer.max_steps
        return torch.optim.SGD([*self.line.parameters()], 0.1)

    def train_dataloader(self) -> Any:
        return loaders()[0]

    def val_dataloader(self) -> Any:
        return [loaders()[1]]


class Mean(LightningModule):
    """Its loss is (w - mean)^2, below zero by a constant: what it is judged by can be computed by hand."""

    def __init__(self, below: float = 0.0) -> None:
        super().__init__()
        self.weight, self.below, self.seen = nn.Parameter(torch.zeros(())), below, []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return (self.weight - batch[0].mean()).square() - self.below

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.seen.append((self.weight - batch[0].amax()).abs())

    def on_validation_epoch_end(self) -> None:
        self.log("val/far", torch.stack(self.seen).mean())
        self.log("val/constant", 3.0)
        self.seen.clear()


class Answers(Lit):
    """What its training_step returns instead."""

    def __init__(self, answer: str) -> None:
        super().__init__()
        self.answer, self.generator = answer, torch.Generator()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        return {
            "none": None,
            "empty": {},
            "word": "loss",
            "rows": loss.expand(3),
            "infinite": loss / 0,
            "detached": loss.detach(),
            "own": loss * torch.rand((), generator=self.generator),
            "graph": torch.autograd.grad(loss, self.net.first.weight, create_graph=True)[0].sum()
            if self.answer == "graph"
            else None,
        }[self.answer]


class Manual(Lit):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False


class Several(Lit):
    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(part.parameters(), 0.1) for part in (self.net.first, self.net.last)]


class Stepless(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)


class Averaged(Lit):
    """Validates an average of its own, which nobody updates here."""

    def __init__(self) -> None:
        super().__init__()
        self.average = Net(4).requires_grad_(False)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/average", self.average(batch[0], batch[0].flatten(1)[:, 0]).mean())


def images(count: int) -> TensorDataset:
    return TensorDataset(
        torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(count)), torch.arange(count)
    )


def loaders() -> tuple[Any, ...]:
    return DataLoader(images(40), 8, shuffle=True), DataLoader(images(22), 4)


def train_alone() -> Any:
    return DataLoader(images(40), 8, shuffle=True, generator=torch.Generator().manual_seed(5))


def with_test() -> tuple[Any, ...]:
    return (*loaders(), DataLoader(images(12), 4))


class Drawn(Dataset[Any]):
    """Each example is drawn anew, from every generator that there is."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Any:
        return torch.rand(1, 8, 8) + random.random() + np.random.rand(), index


def drawn() -> tuple[Any, ...]:
    return DataLoader(Drawn(), 5, shuffle=True), DataLoader(Drawn(), 5)


class Own(Drawn):
    def __init__(self) -> None:
        self.generator = np.random.default_rng(0)

    def __getitem__(self, index: int) -> Any:
        return torch.full((1, 8, 8), self.generator.random()), index


def own_generator() -> Any:
    return DataLoader(Own(), 5), DataLoader(Drawn(), 5)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield from images(8)


def stream() -> Any:
    return DataLoader(Stream(), 4)


def unbatched() -> Any:
    return DataLoader(images(8), batch_size=None)


def nothing() -> Any:
    return DataLoader(images(3), 8, drop_last=True)


def four() -> Any:
    return [*with_test(), None]


def number() -> Any:
    return 3


def broken() -> Any:
    raise FileNotFoundError("photos are gone")


class Bucketed:
    """Batches of its own making."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[list[int]]:
        for first in torch.randperm(self.count // 2).tolist():
            yield [2 * first, 2 * first + 1]

    def __len__(self) -> int:
        return self.count // 2


def bucketed() -> Any:
    return DataLoader(images(12), batch_sampler=Bucketed(12)), DataLoader(images(8), batch_sampler=Bucketed(8))


def bucketed_alone() -> Any:
    return bucketed()[0]


class Module(LightningDataModule):
    """Doubles what it moves."""

    def setup(self, stage: str) -> None:
        self.made = with_test()

    def train_dataloader(self) -> Any:
        return self.made[0]

    def val_dataloader(self) -> Any:
        return self.made[1]

    def test_dataloader(self) -> Any:
        return self.made[2]

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        assert not self.trainer.predicting
        return [2 * batch[0], *batch[1:]]
