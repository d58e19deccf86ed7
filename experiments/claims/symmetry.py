"""Claim 3: weights that are all equal, or all zero; classifiers of the digits 64-32-32-10, float64, one seed."""

from typing import Any

import torch
from torch import Tensor, nn

from denoise.randomness import seeded
from experiments.claims import classifier
from experiments.claims.finding import Check, Finding, Table, short
from experiments.claims.plot import Axis, Line, Panel, Plot

STEPS, LR, VALUE = 600, 0.3, 0.05
CASES = (
    ("zeros", "tanh"),
    ("zeros", "relu"),
    ("zeros", "sigmoid"),
    ("constant", "tanh"),
    ("constant", "relu"),
    ("constant", "sigmoid"),
    ("constant", "gelu_stochastic"),
    ("kaiming_normal", "tanh"),
)


class Ink(nn.Module):
    """(x + 1) / 2: pixels from 0 to 1, so that positive constant weights leave no relu at 0."""

    def forward(self, x: Tensor) -> Tensor:
        return (x + 1) / 2


class Trace:
    """What a training showed.

    difference: the largest between two units of a hidden layer, in an incoming weight, after each step; rank: of
    their outputs at the end; gradient: the largest entry that a weight's gradient ever had; bias: the largest output
    bias at the end.
    """

    def __init__(self, initializer: str, activation: str, steps: int = STEPS, seed: int = 0) -> None:
        settings: dict[str, Any] = {"value": VALUE} if initializer == "constant" else {}
        model = classifier.mlp(activation, initializer, seed, **settings).double()
        model.insert(0, Ink())
        self.linear = classifier.layers(model)
        self.loss: list[float] = []
        self.difference = [self.apart()]
        self.gradient = 0.0
        classifier.fit(model, "sgd", steps, seed=seed, watch=self.watch, lr=LR)
        self.difference = [*self.difference[1:], self.apart()]
        self.rank = rank(model)
        self.bias = self.linear[-1].bias.abs().max().item()
        self.validation, self.accuracy = classifier.evaluate(model)

    def watch(self, step: int, loss: float) -> None:
        """Look at a step before it is taken."""
        self.loss.append(loss)
        self.difference.append(self.apart())
        weights = [linear.weight.grad for linear in self.linear]
        self.gradient = max(self.gradient, *(g.abs().max().item() for g in weights if g is not None))

    def apart(self) -> float:
        """The largest difference between two units of a hidden layer."""
        spans = [(w := layer.weight.detach()).amax(0) - w.amin(0) for layer in self.linear[:-1]]
        return max(span.max().item() for span in spans)


@torch.no_grad()
def rank(model: nn.Module) -> int:
    """The rank of the last hidden layer's outputs on the validation images."""
    images: Tensor = classifier.data().images["validation"]
    with seeded(0, "claims/layers"):
        hidden = images.double()
        for layer in list(model.eval().children())[:-1]:
            hidden = layer(hidden)
    return int(torch.linalg.matrix_rank(hidden, rtol=1e-9))


def claim_3() -> Finding:
    """Train from zeros, from a constant, and from Kaiming's weights."""
    traces = {case: Trace(*case) for case in CASES}
    zeros = [traces["zeros", name] for name in ("tanh", "relu")]
    plain = [trace for (initializer, name), trace in traces.items() if initializer in ("zeros", "constant")]
    equal = [t for t in plain if t is not traces["constant", "gelu_stochastic"]]
    sigmoid = traces["zeros", "sigmoid"]
    checks = [
        Check("largest difference between hidden units, zeros or constant (tanh, relu, sigmoid)",
              max(max(t.difference) for t in equal), high=1e-9),
        Check("rank of the hidden outputs, the same", max(t.rank for t in equal), high=1),
        Check("largest gradient of any weight from zeros, tanh and relu", max(t.gradient for t in zeros), 0, 0),
        Check("largest gradient of any weight from zeros, sigmoid", sigmoid.gradient, 0, 0),
        Check("from zeros, tanh and relu: best accuracy", max(t.accuracy for t in zeros), high=0.15),
        Check("largest difference between hidden units, constant, gelu_stochastic",
              traces["constant", "gelu_stochastic"].difference[-1], high=1e-9),
    ]  # fmt: skip
    rows = [
        [f"`{initializer}`", f"`{name}`", tiny(t.difference[-1]), str(t.rank), short(t.gradient), short(t.bias),
         f"{t.validation:.2f}", f"{t.accuracy:.0%}"]
        for (initializer, name), t in traces.items()
    ]  # fmt: skip
    shown = [("zeros", "tanh"), ("constant", "tanh"), ("constant", "gelu_stochastic"), ("kaiming_normal", "tanh")]
    steps = list(range(STEPS))
    return Finding(
        checks=checks,
        tables=[Table(
            "After training: the largest difference between two hidden units in an incoming weight, the rank of the "
            "last hidden layer's outputs over the validation images (32 is full), the largest gradient that a weight "
            "ever had, the largest output bias, validation loss and accuracy (always guessing gives 2.30 and 10 %).",
            ["initializer", "activation", "difference", "rank", "gradient", "output bias", "loss", "accuracy"], rows)],
        plot=Plot("Claim 3: weights that start equal", [
            Panel("training loss", Axis("step"), Axis("cross-entropy", low=0),
                  [Line(" ".join(case), steps, traces[case].loss) for case in shown]),
            Panel("largest difference between hidden units", Axis("step"), Axis("in a weight", low=0),
                  [Line(" ".join(case), steps, traces[case].difference[:STEPS]) for case in shown]),
        ]),
        values={" ".join(case): {"loss": t.validation, "accuracy": t.accuracy} for case, t in traces.items()},
    )  # fmt: skip


def tiny(value: float) -> str:
    """A difference; what is only rounding is said to be so."""
    return short(value) if value == 0 or value > 1e-9 else "below 1e-9"
