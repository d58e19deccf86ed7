"""Weight normalizations. Call shape: (module) -> module, in place, for a module with a `weight`.

Each is one of torch's parametrizations: the optimizer holds `parametrizations.weight.original`, the layer computes
its weight from it. An output channel is a row of weight.flatten(1), (out, fan_in). A weight keeps its memory format:
from one in another format than the images', gradients come back in the wrong one, and all before it takes longer. Only
weight_norm learns a gain: else the length of a row, or the largest singular value, stays what the formula says.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import normalize
from torch.nn.utils.parametrize import register_parametrization


def none(module: nn.Module) -> nn.Module:
    """w: leave the weight as it is."""
    return module


def weight_norm(module: nn.Module) -> nn.Module:
    """g v / |v|, one length g for each output channel, learned. Salimans & Kingma 2016, arXiv:1602.07868.

    As torch's own, but for the format: on a CPU a step of a network with mish took 1.4 times as long with that.
    """
    register_parametrization(module, "weight", _LengthAndDirection())
    return module


class _LengthAndDirection(nn.Module):
    """g v / |v|; the optimizer holds g as original0 and v as original1."""

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        if _channels_last(v):
            return torch._weight_norm(v.permute(0, 2, 3, 1), g, 0).permute(0, 3, 1, 2)
        return torch._weight_norm(v, g, 0)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return _lengths(weight), weight


def _channels_last(weight: Tensor) -> bool:
    """Whether a row's numbers lie with the channels at the end, even where a side is 1."""
    return weight.ndim == 4 and weight.stride()[1::2] == (1, weight.shape[1])


def _lengths(weight: Tensor) -> Tensor:
    return torch.linalg.vector_norm(weight, dim=tuple(range(1, weight.ndim)), keepdim=True)


def spectral_norm(module: nn.Module, n_power_iterations: int = 1, eps: float = 1e-12) -> nn.Module:
    """w / s, s the largest singular value of w as a matrix (out, fan_in). Miyato et al. 2018, arXiv:1802.05957.

    s is followed by `n_power_iterations` in each training forward, from a vector that starts at random (keyed by
    the caller, out of torch's global generator). Unlike torch's own, it needs only that vector's direction, and
    evaluation iterates too without keeping the result: so the averages of weight and vector go together, where
    torch's would divide by less than s.
    """
    weight = module.get_parameter("weight").flatten(1)
    register_parametrization(module, "weight", _Spectral(weight, n_power_iterations, eps))
    return module


class _Spectral(nn.Module):
    """w / s, s = |W v| with v <- W^T W v / |W^T W v|."""

    v: Tensor

    def __init__(self, weight: Tensor, iterations: int, eps: float) -> None:
        super().__init__()
        self.iterations, self.eps = iterations, eps
        self.register_buffer("v", normalize(torch.randn(weight.shape[1]).to(weight), dim=0))
        self.v.copy_(self.iterate(weight.detach(), 30))

    @torch.no_grad()
    def iterate(self, weight: Tensor, iterations: int) -> Tensor:
        v = self.v
        for _ in range(iterations):  # sums, not products of matrices, which autocast would take in half precision
            u = (weight * v).sum(dim=1, keepdim=True)
            v = normalize((weight * u).sum(dim=0), dim=0, eps=self.eps)
        return v

    def forward(self, weight: Tensor) -> Tensor:
        matrix = weight.flatten(1)
        v = self.iterate(matrix.detach(), self.iterations)
        if self.training:
            with torch.no_grad():
                self.v.copy_(v)
        return weight / torch.linalg.vector_norm((matrix * v).sum(dim=1)).clamp_min(self.eps)


def weight_standardization(module: nn.Module, eps: float = 1e-10, scaled: bool = True) -> nn.Module:
    """(w - mean) / sqrt(var + eps) over each output channel. Qiao et al. 2019, arXiv:1903.10520.

    The paper has a norm behind each such layer, which takes off the factor sqrt(fan_in) that an output gains. Here
    not every layer has one, so `scaled` divides by it, as in Brock, De & Smith 2021, arXiv:2101.08692 (without
    their learned gain); false is the first paper's own form.
    """
    register_parametrization(module, "weight", _Standardized(eps, scaled))
    return module


class _Standardized(nn.Module):
    """(w - mean) / sqrt(var + eps), over sqrt(fan_in) where it is scaled."""

    def __init__(self, eps: float, scaled: bool) -> None:
        super().__init__()
        self.eps, self.scaled = eps, scaled

    def forward(self, weight: Tensor) -> Tensor:
        last = _channels_last(weight)
        ordered = weight.permute(0, 2, 3, 1) if last else weight
        standard = functional.layer_norm(ordered, ordered.shape[1:], eps=self.eps)
        standard = standard * weight[0].numel() ** -0.5 if self.scaled else standard
        return standard.permute(0, 3, 1, 2) if last else standard


def magnitude_preserving(module: nn.Module, eps: float = 1e-4, forced: bool = True) -> nn.Module:
    """w / (|w| + eps) over each output channel: inputs of variance 1 give outputs of variance 1.

    Karras et al. 2024 (EDM2), arXiv:2312.02696, equation 47. With `forced` each training forward also writes the
    result back as the weight that the optimizer holds (equation 66), so that growing weights do not slow learning.
    EDM2 writes back a length of sqrt(fan_in), here it is 1, near that of any initialization, so that learning rates
    keep their meaning. Sums, activations and embeddings are not made magnitude-preserving, and biases stay.
    """
    register_parametrization(module, "weight", _UnitLength(eps, forced))
    return module


class _UnitLength(nn.Module):
    """w / (|w| + eps), kept where it is forced."""

    def __init__(self, eps: float, forced: bool) -> None:
        super().__init__()
        self.eps, self.forced = eps, forced

    def unit(self, weight: Tensor) -> Tensor:
        return weight / (_lengths(weight) + self.eps)

    def forward(self, weight: Tensor) -> Tensor:
        if self.forced and self.training:
            with torch.no_grad():
                weight.copy_(self.unit(weight))
        return self.unit(weight)
