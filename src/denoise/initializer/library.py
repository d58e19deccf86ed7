"""Weight initializers. Call shape: (tensor, activation) -> None, in place; biases are not theirs.

A tensor is a Linear weight (out, in) or a convolution weight (out, in, h, w). `activation` is the module
that follows, needed where a gain applies. They draw from torch's global generator, which the caller keys.
One that needs the whole network returns a stage instead of None: lsuv and pretrained, in rooms of their own.

`gain` is auto by default where the paper derives its variance for the activation (kaiming), and 1 where it derives
it for a linear network (xavier, orthogonal, delta_orthogonal): with `gain: auto` those keep another f's variance too.
"""

import copy
import math

import torch
from torch import Tensor, nn

from denoise.errors import UserError
from denoise.randomness import seeded

TORCH_GAINS = {
    "Identity": "linear",
    "ReLU": "relu",
    "LeakyReLU": "leaky_relu",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "SELU": "selu",
}
DRAWS = 1000  # of an activation that draws in training and does not say what its mean square is


@torch.no_grad()
def auto_gain(activation: nn.Module) -> float:
    """1 / sqrt(E[f(z)^2]), z ~ N(0, 1): the factor that keeps the second moment through `activation`.

    In training mode, where weights are used from the first step on: of one that draws, the mean is over its draws too.
    Trapezoidal rule in float64 on [-12, 12], as one sample. Errors: ValueError where the activation maps all to zero.
    """
    z = torch.linspace(-12, 12, 4801, dtype=torch.float64)
    weight = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    second_moment = (_mean_square(copy.deepcopy(activation).double().cpu().train(), z) * weight).sum().item()
    if not second_moment > 0:
        raise ValueError(f"{type(activation).__name__} maps everything to zero: it has no gain")
    return second_moment**-0.5


def _mean_square(f: nn.Module, z: Tensor) -> Tensor:
    """E[f(z)^2] over what f draws: by its own `mean_square` where it has one, else by drawing, good to 1e-3."""
    own = getattr(f, "mean_square", None)
    if callable(own):
        return torch.as_tensor(own(z))
    with seeded(0, "gain"):
        square = torch.as_tensor(f(z[None])).square()
        if not torch.equal(square, f(z[None]).square()):
            square = f(z.expand(DRAWS, -1)).square()
    return square.mean(0)


def resolve_gain(gain: float | str, activation: nn.Module) -> float:
    """`auto`: computed for the activation; `torch`: torch's, with its slope for leaky_relu; a number: itself."""
    if gain == "auto":
        return auto_gain(activation)
    if gain == "torch":
        name = TORCH_GAINS.get(type(activation).__name__)
        if name is None:
            raise UserError(
                f"initializer.gain=torch: torch has no gain for {type(activation).__name__}; "
                f"it has {', '.join(TORCH_GAINS.values())}; take initializer.gain=auto"
            )
        return nn.init.calculate_gain(name, getattr(activation, "negative_slope", None))  # type: ignore[arg-type]
    if isinstance(gain, str):
        raise UserError(f"initializer.gain={gain}: not legal; legal: auto, torch, or a number")
    return float(gain)


def zeros(tensor: Tensor, activation: nn.Module) -> None:
    """w = 0. A control: hidden units stay equal and nothing is learned."""
    nn.init.zeros_(tensor)


def constant(tensor: Tensor, activation: nn.Module, value: float = 0.02) -> None:
    """w = value. A control: hidden units start equal, get equal gradients and stay equal."""
    nn.init.constant_(tensor, value)


def normal(tensor: Tensor, activation: nn.Module, std: float = 0.02) -> None:
    """w ~ N(0, std^2)."""
    nn.init.normal_(tensor, std=std)


def uniform(tensor: Tensor, activation: nn.Module, bound: float = 0.05) -> None:
    """w ~ U(-bound, bound)."""
    nn.init.uniform_(tensor, -bound, bound)


def trunc_normal(tensor: Tensor, activation: nn.Module, std: float = 0.02) -> None:
    """w ~ N(0, std^2), drawn again beyond 2 std, which leaves a standard deviation of 0.88 std."""
    nn.init.trunc_normal_(tensor, std=std, a=-2 * std, b=2 * std)


def xavier_uniform(tensor: Tensor, activation: nn.Module, gain: float | str = 1.0) -> None:
    """w ~ U(-a, a), a = gain sqrt(6 / (fan_in + fan_out)). Glorot & Bengio 2010."""
    nn.init.xavier_uniform_(tensor, gain=resolve_gain(gain, activation))


def xavier_normal(tensor: Tensor, activation: nn.Module, gain: float | str = 1.0) -> None:
    """w ~ N(0, gain^2 2 / (fan_in + fan_out)). Glorot & Bengio 2010."""
    nn.init.xavier_normal_(tensor, gain=resolve_gain(gain, activation))


def kaiming_uniform(tensor: Tensor, activation: nn.Module, gain: float | str = "auto") -> None:
    """w ~ U(-a, a), a = gain sqrt(3 / fan_in). He et al. 2015, arXiv:1502.01852; gain 2^(1/2) for relu."""
    fan_in, _ = nn.init._calculate_fan_in_and_fan_out(tensor)
    bound = resolve_gain(gain, activation) * math.sqrt(3 / fan_in)
    nn.init.uniform_(tensor, -bound, bound)


def kaiming_normal(tensor: Tensor, activation: nn.Module, gain: float | str = "auto") -> None:
    """w ~ N(0, gain^2 / fan_in). He et al. 2015, arXiv:1502.01852; gain 2^(1/2) for relu."""
    fan_in, _ = nn.init._calculate_fan_in_and_fan_out(tensor)
    nn.init.normal_(tensor, std=resolve_gain(gain, activation) / math.sqrt(fan_in))


def lecun_uniform(tensor: Tensor, activation: nn.Module) -> None:
    """w ~ U(-a, a), a = sqrt(3 / fan_in): variance 1 / fan_in. LeCun et al. 1998, Efficient BackProp."""
    kaiming_uniform(tensor, activation, gain=1.0)


def lecun_normal(tensor: Tensor, activation: nn.Module) -> None:
    """w ~ N(0, 1 / fan_in). LeCun et al. 1998; with selu it is Klambauer et al. 2017, arXiv:1706.02515."""
    kaiming_normal(tensor, activation, gain=1.0)


def orthogonal(tensor: Tensor, activation: nn.Module, gain: float | str = 1.0) -> None:
    """w = gain Q, Q's rows or columns orthonormal. Saxe, McClelland & Ganguli 2014, arXiv:1312.6120."""
    nn.init.orthogonal_(tensor, gain=resolve_gain(gain, activation))


@torch.no_grad()
def delta_orthogonal(tensor: Tensor, activation: nn.Module, gain: float | str = 1.0) -> None:
    """w = gain Q in the centre tap of a convolution, 0 in the others. Xiao et al. 2018, arXiv:1806.05393.

    The paper asks for in <= out, where Q's columns are orthonormal and the map keeps every length. For in > out no
    map does: Q's rows are then orthonormal. A Linear weight is all centre, which is `orthogonal`; so is a kernel of
    even size, which has no centre (a transformer's patches, whose other pixels would be lost).
    """
    if any(size % 2 == 0 for size in tensor.shape[2:]):
        orthogonal(tensor, activation, gain)
        return
    taps = tensor.new_zeros(*tensor.shape[:2], math.prod(tensor.shape[2:]))
    orthogonal(taps[:, :, taps.shape[2] // 2], activation, gain)
    tensor.copy_(taps.view(tensor.shape))


@torch.no_grad()
def sparse(tensor: Tensor, activation: nn.Module, sparsity: float = 0.9, std: float = 0.1) -> None:
    """w ~ N(0, std^2) for the fraction 1 - sparsity of each unit's incoming weights, at least one; else 0.

    Martens 2010, ICML: equally many inputs for every unit, drawn anew for each. A convolution's unit is a row of the
    view (out, in h w). Torch's own sparse_ is 2-D only, thins a unit's outgoing weights, and may leave none of few.
    """
    rows, fan_in = tensor.flatten(1).shape
    kept = max(1, round((1 - sparsity) * fan_in))
    mask = torch.rand(rows, fan_in).argsort(dim=1) < kept
    tensor.copy_((torch.randn(rows, fan_in) * std * mask).view(tensor.shape))


def torch_default(tensor: Tensor, activation: nn.Module) -> None:
    """w ~ U(-a, a), a = 1 / sqrt(fan_in): what torch's Linear and Conv2d do when no one says otherwise."""
    nn.init.kaiming_uniform_(tensor, a=math.sqrt(5))
