"""Claims 6 and 7: what optimizers do with their first steps, at a saddle, and in the long run; toy losses, float64."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from denoise.config import catalog
from experiments.claims import classifier
from experiments.claims.finding import Check, Finding, Table, mean_spread, pm, short
from experiments.claims.plot import Axis, Line, Panel, Plot

LONG = 3_000
BETAS = ((0.9, 0.999), (0.9, 0.99), (0.9, 0.9))
SADDLES: dict[str, tuple[Callable[[Tensor], Tensor], tuple[float, float]]] = {
    "flat": (lambda w: w[0] ** 4 / 4 + w[0] ** 3 / 3 + w[1] ** 2 / 2, (0.9, 1.0)),
    "strict": (lambda w: w[0] ** 4 / 4 - w[0] ** 2 / 2 + w[1] ** 2 / 2, (1e-6, 1.0)),
    "strict, on its ridge": (lambda w: w[0] ** 4 / 4 - w[0] ** 2 / 2 + w[1] ** 2 / 2, (0.0, 1.0)),
}
AT_A_SADDLE = {
    "sgd, lr 0.05": ("sgd", 0.05),
    "sgd, lr 0.5": ("sgd", 0.5),  # as far as momentum's steps of one direction add up to
    "momentum, lr 0.05": ("momentum", 0.05),
    "nesterov, lr 0.05": ("nesterov", 0.05),
    "rmsprop, lr 0.01": ("rmsprop", 0.01),
    "adam, lr 0.01": ("adam", 0.01),
}


def moves(optimizer: str, steps: int, lr: float = 1e-3, **parameters: float | list[float]) -> list[float]:
    """How far each step goes under a gradient that is always 1, in units of lr."""
    w = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    taken = catalog.build("optimizer", optimizer, [w], lr=lr, **parameters)
    places = [0.0]
    for _ in range(steps):
        w.grad = torch.ones_like(w)
        taken.step()
        places.append(w.item())
    return [(a - b) / lr for a, b in zip(places, places[1:], strict=False)]


def descend(optimizer: str, saddle: str, steps: int, lr: float) -> list[float]:
    """The first coordinate at each step of the way down from a saddle's start."""
    f, start = SADDLES[saddle]
    w = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    taken = catalog.build("optimizer", optimizer, [w], lr=lr)
    path = [start[0]]
    for _ in range(steps):
        taken.zero_grad()
        f(w).backward()
        taken.step()
        path.append(w[0].item())
    return path


def passed(saddle: str, path: Sequence[float]) -> int | None:
    """The step from which on the point is past the saddle, half way to the minimum at 1 or -1; None: never."""
    past = [x < -0.5 if saddle == "flat" else abs(x) > 0.5 for x in path]
    return past.index(True) if True in past else None


def early_losses(optimizer: str, lr: float, seeds: Sequence[int] = (0, 1, 2), steps: int = 100) -> list[list[float]]:
    """Training losses of a digits classifier, step by step, a list for each seed."""
    found: list[list[float]] = []
    for seed in seeds:
        found.append([])
        model = classifier.mlp("relu", "kaiming_normal", seed)
        classifier.fit(model, optimizer, steps, seed=seed, lr=lr, watch=lambda _, loss: found[-1].append(loss))
    return found


def claim_6() -> Finding:
    """Measure the steps under a constant gradient, and the first losses of a training."""
    plain, corrected = (moves(name, LONG) for name in ("adam_uncorrected", "adam"))
    largest = max(range(LONG), key=lambda i: plain[i])
    by_betas = {betas: moves("adam_uncorrected", 2000, betas=list(betas)) for betas in BETAS}
    rates = (0.002, 0.01, 0.05)
    losses = {(n, lr): early_losses(n, lr) for n in ("adam", "adam_uncorrected") for lr in rates}
    at = [1, 2, 5, 10, 20, 100, 1000, LONG]
    checks = [
        Check("adam_uncorrected: first step / lr, betas (0.9, 0.999)", plain[0], 3.0, 3.3),
        Check("adam_uncorrected: largest step / lr", plain[largest], low=2.0),
        Check("adam: largest step / lr", max(corrected), high=1.001),
    ]
    ends = [[f"`{n}`", f"{lr:g}", pm([max(run[1:30]) for run in runs], 2), pm([run[-1] for run in runs])]
            for (n, lr), runs in losses.items()]  # fmt: skip
    steps = list(range(1, LONG + 1))
    mean = {key: [mean_spread(column)[0] for column in zip(*runs, strict=True)] for key, runs in losses.items()}
    return Finding(
        checks=checks,
        tables=[
            Table("Step size / lr at some steps, gradient always 1.", ["optimizer", *map(str, at)], [
                [f"`{n}`", *(short(run[i - 1]) for i in at)]
                for n, run in (("adam_uncorrected", plain), ("adam", corrected))
            ]),
            Table("The first step and the largest, by betas.", ["betas", "first / lr", "largest / lr", "at step"], [
                [str(b), short(run[0]), short(max(run)), str(run.index(max(run)) + 1) if max(run) > run[-1] else "last"]
                for b, run in by_betas.items()
            ]),
            Table("Digits: the largest loss in steps 2 to 30 and the loss at step 100, mean ± standard deviation over "
                  "three seeds.", ["optimizer", "lr", "largest early loss", "loss at step 100"], ends),
        ],
        plot=Plot("Claim 6: steps without bias correction", [
            Panel("step size / lr, gradient always 1", Axis("step", log=True), Axis("step / lr", low=0),
                  [Line(n, thin(steps), thin(run)) for n, run in (("adam_uncorrected", plain), ("adam", corrected))]),
            Panel(f"digits, lr {rates[-1]:g}: training loss", Axis("step"), Axis("cross-entropy, mean of 3", log=True),
                  [Line(n, steps[:100], mean[n, rates[-1]]) for n in ("adam_uncorrected", "adam")]),
        ]),
        values={f"{n}, lr {lr:g}": {"loss at step 100": [run[-1] for run in runs]} for (n, lr), runs in losses.items()},
    )  # fmt: skip


def claim_7(steps: int = 2000) -> Finding:
    """Follow optimizers past saddles, and their step sizes under a constant gradient."""
    paths = {(s, n): descend(optimizer, s, steps, lr) for s in SADDLES for n, (optimizer, lr) in AT_A_SADDLE.items()}
    when = {key: passed(key[0], path) for key, path in paths.items()}
    sizes = {"adagrad": moves("adagrad", LONG), "rmsprop": moves("rmsprop", LONG)}
    sizes["rmsprop alpha=0.9"] = moves("rmsprop", LONG, alpha=0.9)
    never = float("inf")
    slow, large, fast, *_ = AT_A_SADDLE

    def at_step(saddle: str, name: str) -> float:
        return when[saddle, name] or never

    plain = min(at_step("flat", name) for name in (slow, large))
    checks = [
        Check("flat saddle: step at which momentum has passed it", at_step("flat", fast), high=steps),
        Check("flat saddle: step at which sgd has passed it", plain, low=never),
        Check("strict saddle: step at which momentum has passed it", at_step("strict", fast), high=steps),
        Check("strict saddle: step at which sgd has passed it", at_step("strict", slow), low=never),
        Check("strict saddle, on its ridge: step at which momentum has passed it",
              at_step("strict, on its ridge", fast), high=steps),
        Check(f"adagrad: step {LONG:,} / step 1", sizes["adagrad"][-1] / sizes["adagrad"][0], high=0.1),
        Check("rmsprop: step 1,000 / step 1", sizes["rmsprop"][999] / sizes["rmsprop"][0], low=0.9),
        Check(f"rmsprop: step {LONG:,} / step 1,000", sizes["rmsprop"][-1] / sizes["rmsprop"][999], low=0.9),
    ]  # fmt: skip
    at = [1, 10, 100, 1000, LONG]
    flat = partial(Panel, x=Axis("step", log=True), y=Axis("x; the saddle is at 0", low=-1.2, high=1.2))
    numbers = list(range(1, LONG + 1))
    return Finding(
        checks=checks,
        tables=[
            Table("The step at which the point is half way to a minimum.", ["optimizer", *SADDLES], [
                [n, *(str(when[s, n] or "never") for s in SADDLES)] for n in AT_A_SADDLE
            ]),
            Table("Step size / lr at some steps, gradient always 1.", ["optimizer", *(f"{i:,}" for i in at)], [
                [f"`{n}`", *(short(run[i - 1]) for i in at)] for n, run in sizes.items()
            ]),
        ],
        plot=Plot("Claim 7: saddles and step sizes", [
            flat("flat saddle", lines=[Line(n, numbers[:steps], paths["flat", n][1:]) for n in AT_A_SADDLE]),
            flat("strict saddle", y=Axis("abs x; the saddle is at 0", low=-0.2, high=1.2),
                 lines=[Line(n, numbers[:steps], list(map(abs, paths["strict", n][1:]))) for n in AT_A_SADDLE]),
            Panel("step size / lr, gradient always 1", Axis("step", log=True), Axis("step / lr", log=True),
                  [Line(n, thin(numbers), thin(run)) for n, run in sizes.items()]),
        ]),
    )  # fmt: skip


def thin(values: Sequence[float], count: int = 120) -> list[float]:
    """Values at places evenly spread in logarithm, the first and the last among them."""
    places = sorted({round(len(values) ** (i / (count - 1))) for i in range(count)})
    return [values[place - 1] for place in places]
