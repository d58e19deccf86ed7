"""Two distances between sets of features, x: (N, D) of one and y: (M, D) of the other, in float64."""

import torch
from torch import Tensor

BLOCK = 32  # resamples whose covariances are in memory at once


def kernel(x: Tensor, y: Tensor) -> Tensor:
    """k(x, y) = (x.y / D + 1)^3 of each pair: (N, M)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def kernel_distance(x: Tensor, y: Tensor) -> float:
    """Unbiased MMD^2: mean k(x, x') + mean k(y, y') - 2 mean k(x, y), no point with itself; may lie below 0.

    Binkowski et al. 2018, arXiv:1801.01401; there over subsets, here over all pairs, which varies less.
    """
    return resampled_kernel_distance(x, y, torch.arange(len(x))[None], torch.arange(len(y))[None]).item()


def resampled_kernel_distance(x: Tensor, y: Tensor, rows: Tensor, others: Tensor) -> Tensor:
    """The same of resamples: rows (B, N) of x and others (B, M) of y -> (B,).

    A row that is drawn twice is no pair with itself: such pairs would make each resample's distance too large.
    """
    x, y = x.double(), y.double()
    p, q = _counts(rows, len(x)), _counts(others, len(y))
    across = ((p @ kernel(x, y)) * q).sum(1) / (p.sum(1) * q.sum(1))
    return _within(x, p) + _within(y, q) - 2 * across


def _within(x: Tensor, counts: Tensor) -> Tensor:
    pairs = kernel(x, x).fill_diagonal_(0)
    return ((counts @ pairs) * counts).sum(1) / (counts.sum(1).square() - counts.square().sum(1))


def _counts(rows: Tensor, size: int) -> Tensor:
    found = torch.zeros(len(rows), size, dtype=torch.float64)
    return found.scatter_add_(1, rows, torch.ones(rows.shape, dtype=torch.float64))


def shrunk_covariance(x: Tensor) -> Tensor:
    """(1 - a) S + a tr(S) / D I, S the covariance of (..., N, D), a Ledoit and Wolf's shrinkage: (..., D, D).

    a = min(b, d) / d with d = ||S - mu I||^2 and b = sum_n ||x_n x_n' - S||^2 / N^2, mu = tr(S) / D. It is regular
    however few the samples are. Ledoit & Wolf 2004, doi:10.1016/S0047-259X(03)00096-4.
    """
    x = x.double()
    x = x - x.mean(-2, keepdim=True)
    count, width = x.shape[-2:]
    covariance = x.mT @ x / count
    trace = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
    norm = covariance.square().sum((-2, -1))
    spread = (norm - trace.square() / width).clamp(min=0)
    noise = ((x.square().sum(-1).square().mean(-1) - norm) / count).clamp(min=0)
    share = torch.where(spread > 0, torch.minimum(noise, spread) / spread.clamp(min=1e-300), 0.0)[..., None, None]
    return (1 - share) * covariance + share * (trace / width)[..., None, None] * torch.eye(width, dtype=torch.float64)


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """|m - m'|^2 + tr(C + C' - 2 (C C')^1/2), m the means and C the shrunk covariances of x and y.

    Heusel et al. 2017, arXiv:1706.08500, who do not shrink.
    """
    return _frechet(*_moments(x), *_moments(y)).item()


def resampled_frechet_distance(x: Tensor, y: Tensor, rows: Tensor, others: Tensor) -> Tensor:
    """The same of resamples: rows (B, N) of x and others (B, M) of y -> (B,)."""
    parts = zip(rows.split(BLOCK), others.split(BLOCK), strict=True)
    return torch.cat([_frechet(*_moments(x[first]), *_moments(y[second])) for first, second in parts])


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.double().mean(-2), shrunk_covariance(x)


def _frechet(mean: Tensor, covariance: Tensor, other_mean: Tensor, other: Tensor) -> Tensor:
    """tr (C C')^1/2 is the sum of the singular values of C^1/2 C'^1/2."""
    cross = torch.linalg.svdvals(_root(covariance) @ _root(other)).sum(-1)
    traces = (covariance + other).diagonal(dim1=-2, dim2=-1).sum(-1)
    return (mean - other_mean).square().sum(-1) + traces - 2 * cross


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt()[..., None, :] @ vectors.mT
