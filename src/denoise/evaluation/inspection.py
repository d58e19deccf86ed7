"""A network at its initialization: signal and gradient through depth, without training."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from denoise.config.legal import is_lightning
from denoise.errors import UserError
from denoise.foreign.as_built import is_as_built
from denoise.model.block import Part
from denoise.pictures.depth import Curve, through_depth
from denoise.pictures.figure import BLUE, ORANGE
from denoise.process_state import steady
from denoise.randomness import seeded, stream
from denoise.training import diagnostics
from denoise.training.build import build_parts, prepare

DEPTH, WIDTH, TOKENS, BATCH = 50, 128, 4, 64  # of the plain stack


@dataclass(frozen=True)
class Layer:
    """An activation layer: what comes out of it, and the gradient that comes back to it.

    signal: standard deviation of the output; gradient: root mean square of dL/d output; the two fractions as in a
    training's health.
    """

    name: str
    signal: float
    gradient: float
    dead: float
    saturated: float


@dataclass(frozen=True)
class Inspection:
    """The activation layers of the network and of a plain stack, in the order in which they run."""

    network: list[Layer]
    stack: list[Layer]

    def picture(self, title: str) -> bytes:
        """Signal and gradient through depth, the network's and the stack's, as SVG."""
        both = (("the network", self.network, ORANGE), (f"{DEPTH} plain layers", self.stack, BLUE))
        return through_depth(
            title,
            {
                "signal, standard deviation": [Curve(n, [r.signal for r in rows], c) for n, rows, c in both],
                "gradient, root mean square": [Curve(n, [r.gradient for r in rows], c) for n, rows, c in both],
            },
        )


@steady()
def inspect(cfg: DictConfig) -> Inspection:
    """Pass one batch forward and backward through a config's network, and through a plain stack of its components.

    The stack is DEPTH times linear, normalization, activation, without skip connections: what the components do by
    themselves. Its gradient starts at unit variance. Errors: UserError for a config that cannot be trained.
    """
    if is_lightning(cfg.model):
        raise UserError("inspect: shows denoisers; of model=lightning the verb sites lists what options reach")
    own = [kind for kind in ("activation", "normalization", "initializer") if is_as_built(cfg[kind])]
    if own:
        wanted = {"activation": "silu", "normalization": "group_norm", "initializer": "torch_default"}
        raise UserError(
            f"inspect: {', '.join(own)} as_built: plain layers of a model's own cannot be built; choose them, such as "
            f"{' '.join(f'{kind}={wanted[kind]}' for kind in own)}"
        )
    module = prepare(cfg)
    module.setup("fit")
    network = look(module.network, module.loss_at(0))
    part = build_parts(cfg).transformer
    with seeded(cfg.seed, "inspect/stack"):
        stack = Stack(part)
    x = torch.randn(BATCH, TOKENS, WIDTH, generator=stream(cfg.seed, "inspect/input"))
    back = torch.randn(x.shape, generator=stream(cfg.seed, "inspect/gradient"))
    plain = look(stack, lambda: (stack(x) * back).sum())
    return Inspection(network, [replace(row, name=f"layer {i}") for i, row in enumerate(plain, start=1)])


class Stack(nn.Module):
    """DEPTH times act(norm(W h)): (B, T, WIDTH) -> (B, T, WIDTH)."""

    def __init__(self, part: Part) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(DEPTH):
            linear = nn.Linear(WIDTH, WIDTH)
            nn.init.zeros_(linear.bias)
            activation = part.activation(WIDTH)
            part.initializer(linear.weight, activation)
            layers += [part.weight_normalization(linear), part.normalization(WIDTH), activation]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def look(model: nn.Module, loss: Callable[[], Tensor]) -> list[Layer]:
    """Run `loss` forward and backward; each activation layer of `model` in the order in which they run.

    The noise embedding is left out: it stands beside the depth, and modulations start at zero, so that nothing comes
    back to it before the first update.
    """
    flow = diagnostics.LayerFlow()
    gradients: dict[str, Tensor] = {}

    def watch(name: str, module: nn.Module, x: Tensor, output: Tensor) -> None:
        flow.watch(name, module, x, output)
        output.register_hook(lambda g: gradients.__setitem__(name, g.float().square().mean().sqrt()))

    embeddings = [module for module in model.modules() if getattr(module, "part_name", "") == "embedding"]
    beside = {module for embedding in embeddings for module in embedding.modules()}
    with diagnostics.watching(model, lambda m: diagnostics.is_activation(m) and m not in beside, watch):
        loss().backward()
    return [
        Layer(
            name,
            signal=max(row["variance"], 0.0) ** 0.5,
            gradient=float(gradients.get(name, 0.0)),
            dead=row["dead_fraction"],
            saturated=row["saturated_fraction"],
        )
        for name, row in flow.layers().items()
    ]
