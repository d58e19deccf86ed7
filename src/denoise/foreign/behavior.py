"""What a module is, told by what it does: an activation, a gate, a normalization, a feed-forward, an attention.

A module is tried on random numbers of the shape that it met; it is left as it was.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from denoise.foreign.census import Shape, as_before
from denoise.foreign.functions import CHANNELS_FIRST, CHANNELS_LAST
from denoise.randomness import seeded

FAR = 60.0  # an activation grows towards one side at least; a gate is bounded there
BOUND = 3.0
PROJECTIONS = ("to_q", "to_qkv", "q_proj", "qkv_proj", "q", "qkv", "query", "query_key_value", "in_proj", "w_q", "wq")


def tried(module: nn.Module, test: Callable[[], Any]) -> Any:
    """What a test of a module says, in evaluation and without gradients; None where the module does not take part."""
    with as_before(module), torch.no_grad(), seeded(0, "behavior"):
        module.eval()
        try:
            return test()
        except Exception:  # whatever a module says that is none of these
            return None


def is_elementwise(module: nn.Module) -> bool:
    """f(permuted x) = permuted f(x) of the same shape, and f is not linear. Parameters: one number each at most."""
    if next(module.children(), None) is not None or any(p.numel() > 1 for p in module.parameters()):
        return False

    def test() -> bool:
        x = torch.randn(5, 7)
        y, order = module(x), torch.randperm(35)
        if not isinstance(y, Tensor) or y.shape != x.shape or not y.is_floating_point():
            return False
        permuted = torch.allclose(module(x.flatten()[order].view(5, 7)).flatten(), y.flatten()[order], atol=1e-6)
        linear = torch.allclose(module(2 * x), 2 * y, atol=1e-6) and torch.allclose(module(-x), -y, atol=1e-6)
        return permuted and not linear

    return bool(tried(module, test))


def is_gate(module: nn.Module) -> bool:
    """Whether an elementwise module stays bounded towards both sides, as sigmoid and tanh do."""

    def test() -> bool:
        far = torch.tensor([[-FAR, FAR], [-FAR / 2, FAR / 2]])
        return bool(module(far).abs().max() <= BOUND)

    return bool(tried(module, test))


def norm_axis(module: nn.Module, shape: Shape) -> int | None:
    """The axis of the channels that a normalization of inputs of this shape has: 1 or the last; None: it is none.

    f(s x) = f(x) for a scale s of each image, if only up to its epsilon, of the same shape and not constant. The
    channels are the last axis where s may be one of each position, or where a gain has their number.
    """
    last = len(shape) - 1
    if isinstance(module, CHANNELS_FIRST + CHANNELS_LAST):
        return 1 if isinstance(module, CHANNELS_FIRST) else last
    own = list(module.parameters(recurse=False))
    if next(module.children(), None) is not None or len(own) > 2 or len({p.numel() for p in own}) > 1 or last < 1:
        return None

    def test() -> int | None:
        x = torch.randn(shape) * 3
        y = module(x)

        def same(scale: Tensor) -> bool:
            return torch.allclose(module(x * scale), y, atol=1e-2, rtol=1e-2)

        if not isinstance(y, Tensor) or y.shape != x.shape or not y.std() > 0.1 or torch.allclose(y, x, atol=1e-2):
            return None
        if not same(torch.tensor(5.0)):
            return None
        if same(torch.rand(*shape[:-1], 1) + 1):
            return last
        if len(shape) > 2 and same(torch.rand(shape[0], 1, *shape[2:]) + 1):
            return 1
        return 1 if len(shape) == 4 and not (own and own[0].numel() == shape[-1] != shape[1]) else last

    found = tried(module, test)
    return found if found is None else int(found)


def feed_forward_width(module: nn.Module, shape: Shape) -> int | None:
    """The hidden width of a feed-forward, as that of a plain MLP of as many parameters; None for what is none.

    (B, T, d) -> (B, T, d), each token by itself, not linear, of two or three linear layers and no normalization. A
    gated one has half as many parameters more than an MLP of its hidden width.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    if len(shape) != 3 or not 2 <= len(layers) <= 3 or any(_parameters_elsewhere(module)):
        return None
    dim, hidden = shape[-1], {layer.in_features for layer in layers if layer.out_features == shape[-1]}
    if not hidden or not any(layer.in_features == dim for layer in layers):
        return None

    def test() -> bool:
        x = torch.randn(2, 6, dim)
        y = module(x)
        if not isinstance(y, Tensor) or y.shape != x.shape:
            return False
        alone = torch.allclose(module(x[:, :1]), y[:, :1], atol=1e-5)
        return alone and not torch.allclose(module(2 * x), 2 * y, atol=1e-5 * float(y.abs().max()))

    width = max(hidden)
    gated = sum(layer.weight.numel() for layer in layers) > 2.5 * dim * width
    return (round(1.5 * width) if gated else width) if tried(module, test) else None


def _parameters_elsewhere(module: nn.Module) -> list[nn.Module]:
    """The modules below that are neither linear nor without parameters."""
    return [
        each
        for each in module.modules()
        if not isinstance(each, nn.Linear) and any(p.numel() > 1 for p in each.parameters(recurse=False))
    ]


def is_attention(module: nn.Module) -> bool:
    """Whether a module projects to queries, keys and values itself."""
    if isinstance(module, nn.MultiheadAttention) or type(module).__name__.endswith("Attention"):
        return True
    return any(name in PROJECTIONS for name, _ in module.named_children())
