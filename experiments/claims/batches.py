"""Claim 8: normalizations and the batch's size, in a classifier and in a denoiser of the digits."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from denoise.config import catalog
from denoise.randomness import seeded
from experiments.claims import classifier, denoisers
from experiments.claims.finding import Check, Finding, Table, mean_spread, pm
from experiments.claims.plot import Axis, Line, Panel, Plot

NORMS = ("batch_norm", "layer_norm", "group_norm")
SEEDS = (0, 1, 2)
CHANNELS = 16
RATE = 0.006  # of the classifier's sgd, times the batch size: Goyal et al. 2017, arXiv:1706.02677


class Convolutions(nn.Module):
    """Three times relu(norm(conv(x))), the mean over the map, a linear layer: (B, 1, 8, 8) -> (B, 10)."""

    def __init__(self, normalization: str, seed: int, channels: int = CHANNELS) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        with seeded(seed, "claims/weights"):
            for i, stride in enumerate((1, 2, 2)):
                conv = nn.Conv2d(channels if i else 1, channels, 3, stride, padding=1)
                act = catalog.build("activation", "relu")
                catalog.build("initializer", "kaiming_normal", conv.weight, act)
                nn.init.constant_(conv.bias, 0.0)  # type: ignore[arg-type]
                stages += [conv, catalog.build("normalization", normalization, channels), act]
            self.out = nn.Linear(channels, classifier.CLASSES)
        self.stages = nn.Sequential(*stages)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.stages(x).mean((2, 3)))


def classify(normalization: str, batch_size: int, seed: int, seen: int) -> tuple[float, float]:
    """Train a classifier on `seen` images; validation loss, and that with the validation set's own statistics."""
    model = Convolutions(normalization, seed)
    classifier.fit(model, "sgd", seen // batch_size, batch_size, seed, lr=RATE * batch_size)
    loss, _ = classifier.evaluate(model)
    model.train()
    with torch.no_grad():
        scores = model(classifier.data().images["validation"])
    return loss, nn.functional.cross_entropy(scores, classifier.data().labels["validation"]).item()


def denoised(normalization: str, batch_size: int, seed: int, seen: int) -> tuple[float, float]:
    """Train a denoiser on `seen` images; val/loss, and that with the validation set's own statistics."""
    model = denoisers.trained(seed, seen // batch_size, batch_size, f"normalization={normalization}")
    model.denoiser.train()
    return model.loss, denoisers.losses(denoisers.predict(model), model).mean().item()


@dataclass(frozen=True)
class Trainings:
    """The trainings of one model: (normalization, batch size) -> (loss, loss with own statistics) of each seed."""

    sizes: Sequence[int]
    seen: int
    runs: Mapping[tuple[str, int], Sequence[tuple[float, float]]]

    def loss(self, normalization: str, size: int) -> list[float]:
        """Seed by seed."""
        return [loss for loss, _ in self.runs[normalization, size]]

    def mean(self, normalization: str, size: int) -> float:
        """Over the seeds."""
        return mean_spread(self.loss(normalization, size))[0]

    def behind(self, normalization: str, size: int) -> list[float]:
        """The loss - group_norm's, seed by seed: what fewer steps or smaller batches cost every network is gone."""
        return [a - g for a, g in zip(self.loss(normalization, size), self.loss("group_norm", size), strict=True)]

    def rows(self) -> list[list[str]]:
        """Rows of a table: loss by batch size; of batch_norm also with its own statistics."""
        names = sorted({name for name, _ in self.runs}, key=[*NORMS, "none"].index)
        rows = [[f"`{name}`", *(pm(self.loss(name, size)) for size in self.sizes)] for name in names]
        own = [[each for _, each in self.runs["batch_norm", size]] for size in self.sizes]
        gaps = [f"`{name}` - `group_norm`" for name in NORMS[:2]]
        rows.append(["`batch_norm`, statistics of all validation images", *map(pm, own)])
        rows += [[gap, *(pm(self.behind(n, size)) for size in self.sizes)] for gap, n in zip(gaps, NORMS, strict=False)]
        return rows

    def panel(self, title: str) -> Panel:
        """Loss by batch size."""
        names = dict.fromkeys(name for name, _ in self.runs)
        lines = [Line(name, self.sizes, [self.mean(name, size) for size in self.sizes]) for name in names]
        return Panel(title, Axis("batch size", log=True), Axis(f"mean of {len(SEEDS)} seeds"), lines)

    def gaps(self, title: str) -> Panel:
        """batch_norm's loss less group_norm's by batch size, a line a seed."""
        by_seed = zip(*(self.behind("batch_norm", size) for size in self.sizes), strict=True)
        lines = [Line(f"batch_norm, seed {seed}", self.sizes, each) for seed, each in zip(SEEDS, by_seed, strict=True)]
        return Panel(title, Axis("batch size", log=True), Axis("below 0: batch_norm is better"), lines)


def train_all(
    one: Callable[[str, int, int, int], tuple[float, float]], norms: Sequence[str], sizes: Sequence[int], seen: int
) -> Trainings:
    """Every normalization with every batch size and seed."""
    runs = {(n, b): [one(n, b, seed, seen) for seed in SEEDS] for n in norms for b in sizes}
    return Trainings(sizes, seen, runs)


def checks(what: str, found: Trainings, harm: float) -> list[Check]:
    """What the claim asks for: at batch 2 batch_norm behind group_norm by `harm`, on every seed, and only there."""
    small, large = found.sizes[0], found.sizes[-1]
    behind = [found.behind("batch_norm", size) for size in (small, large)]
    more = [a - b for a, b in zip(*behind, strict=True)]
    return [
        Check(f"{what}: batch_norm's loss - group_norm's at batch {small}, mean", mean_spread(behind[0])[0], low=harm),
        Check(f"{what}: the same at batch {small} - at batch {large}, least over the seeds", min(more), low=harm),
        *(
            Check(
                f"{what}: {n}'s loss at batch {small} - at batch {large}, mean",
                found.mean(n, small) - found.mean(n, large),
                high=harm,
            )
            for n in ("layer_norm", "group_norm")
        ),
    ]


def plot(found: Mapping[str, Trainings]) -> Plot:
    """The losses, and how far the denoiser's batch_norm is behind group_norm."""
    panels = [each.panel(f"{what}: validation loss") for what, each in found.items()]
    return Plot(
        "Claim 8: small batches", [*panels, found["denoiser"].gaps("denoiser: batch_norm's loss - group_norm's")]
    )


def claim_8(sizes: Sequence[int] = (2, 4, 16, 64), few: Sequence[int] = (2, 4, 64)) -> Finding:
    """Train classifiers and denoisers with each normalization, batch size and seed."""
    found = {
        "classifier": train_all(classify, (*NORMS, "none"), sizes, 2048),
        "denoiser": train_all(denoised, NORMS, few, 3072),
    }
    return Finding(
        checks=[
            *checks("classifier", found["classifier"], 0.1),
            *checks("denoiser", found["denoiser"], 0.01),
        ],
        tables=[
            Table(f"The {what}'s validation loss, mean ± standard deviation over {len(SEEDS)} seeds. Every training "
                  f"sees {each.seen:,} images, whatever its batches: {each.seen // each.sizes[0]:,} steps at batch "
                  f"{each.sizes[0]}, {each.seen // each.sizes[-1]} at batch {each.sizes[-1]}.",
                  ["normalization", *(f"batch {size}" for size in each.sizes)], each.rows())
            for what, each in found.items()
        ],
        plot=plot(found),
        values={f"{what}, {n}, batch {b}": each.loss(n, b) for what, each in found.items() for n, b in each.runs},
    )  # fmt: skip
