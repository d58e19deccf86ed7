"""Distances and coverage against other formulas: loops in float64, scipy's sqrtm, scikit-learn, torchmetrics."""

import warnings
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from sklearn.covariance import ledoit_wolf

from denoise.quality import coverage, distance


def features(seed: int, count: int, width: int, shift: float = 0.0) -> torch.Tensor:
    """Correlated, skewed and not centred."""
    draw = np.random.default_rng(seed)
    mixed = draw.exponential(size=(count, width)) @ draw.normal(size=(width, width))
    return torch.tensor(mixed + shift)


SIZES = [(9, 7, 5), (5, 40, 12), (30, 30, 1), (40, 24, 60)]


@pytest.mark.parametrize("sizes", SIZES)
def test_the_kernel_distance_is_that_of_a_loop_over_pairs(sizes: tuple[int, int, int]) -> None:
    count, others, width = sizes
    x, y = features(0, count, width), features(1, others, width, 0.3)

    def k(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a.numpy() @ b.numpy() / width + 1) ** 3)

    same_x = sum(k(x[i], x[j]) for i, j in product(range(count), repeat=2) if i != j) / (count * (count - 1))
    same_y = sum(k(y[i], y[j]) for i, j in product(range(others), repeat=2) if i != j) / (others * (others - 1))
    across = sum(k(a, b) for a, b in product(x, y)) / (count * others)
    assert distance.kernel_distance(x, y) == pytest.approx(same_x + same_y - 2 * across, rel=1e-9)


def test_a_resample_is_the_distance_of_its_rows_without_the_pairs_of_a_row_with_itself() -> None:
    x, y = features(2, 8, 3), features(3, 6, 3, 1.0)
    rows, others = torch.randint(8, (4, 8)), torch.randint(6, (4, 6))
    found = distance.resampled_kernel_distance(x, y, rows, others)
    for b in range(4):
        means = []
        for one, at in ((x, rows[b]), (y, others[b])):
            pairs = [(i, j) for i, j in product(at.tolist(), repeat=2) if i != j]
            means.append(np.mean([((one[i] @ one[j]) / 3 + 1) ** 3 for i, j in pairs]))
        across = np.mean([((x[i] @ y[j]) / 3 + 1) ** 3 for i, j in product(rows[b].tolist(), others[b].tolist())])
        assert found[b].item() == pytest.approx(means[0] + means[1] - 2 * across, rel=1e-9)


def test_the_kernel_distance_has_no_bias_and_the_frechet_distance_has_one() -> None:
    """Of two samples of one distribution the first is 0 in the mean over many."""
    draw = torch.Generator().manual_seed(0)
    sets = torch.randn(400, 2, 12, 4, dtype=torch.float64, generator=draw)
    found = torch.tensor([distance.kernel_distance(x, y) for x, y in sets])
    assert abs(found.mean()) < 3 * found.std() / 20
    assert np.mean([distance.frechet_distance(x, y) for x, y in sets]) > 0.3


@pytest.mark.parametrize("sizes", SIZES)
def test_the_covariance_is_scikit_learns(sizes: tuple[int, int, int]) -> None:
    x = features(4, sizes[0], sizes[2], 5.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of one feature
        expected, _ = ledoit_wolf(x.numpy())
    np.testing.assert_allclose(distance.shrunk_covariance(x), expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


def test_several_covariances_at_once_are_each_its_own() -> None:
    x = torch.stack([features(seed, 9, 4) for seed in range(3)])
    torch.testing.assert_close(distance.shrunk_covariance(x)[1], distance.shrunk_covariance(x[1]))


@pytest.mark.parametrize("sizes", SIZES)
def test_the_frechet_distance_is_that_of_scipys_square_root(sizes: tuple[int, int, int]) -> None:
    count, others, width = sizes
    x, y = features(5, count, width), features(6, others, width, 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        c, d = ledoit_wolf(x.numpy())[0], ledoit_wolf(y.numpy())[0]
    shift = x.numpy().mean(0) - y.numpy().mean(0)
    expected = shift @ shift + np.trace(c + d - 2 * np.real(sqrtm(c @ d)))
    assert distance.frechet_distance(x, y) == pytest.approx(expected, rel=1e-7)
    rows, numbers = torch.randint(count, (40, count)), torch.randint(others, (40, others))
    found = distance.resampled_frechet_distance(x, y, rows, numbers)
    assert found.shape == (40,)
    assert found[37].item() == pytest.approx(distance.frechet_distance(x[rows[37]], y[numbers[37]]), rel=1e-7)


def test_features_that_never_change_are_at_a_distance_of_their_means() -> None:
    x, y = torch.zeros(6, 3), torch.zeros(5, 3) + torch.tensor([0.0, 3.0, 4.0])
    assert distance.frechet_distance(x, y) == pytest.approx(25.0)
    assert distance.frechet_distance(x, x) == 0.0


class Own(torch.nn.Module):
    """Images are features already."""

    num_features = 6

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)


@pytest.mark.filterwarnings("ignore")
def test_both_distances_are_torchmetrics() -> None:
    """The kernel's over one subset of all; the Frechet distance of many points, where shrinking hardly acts."""
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    draw = torch.Generator().manual_seed(1)
    x, y = (torch.randn(4000, 6, generator=draw, dtype=torch.float64) * s for s in (1.0, 1.5))
    x = x * torch.tensor([3.0, 2.0, 1.0, 1.0, 0.5, 0.2])  # far from a multiple of 1: little to shrink
    y = y * torch.tensor([3.0, 2.0, 1.0, 1.0, 0.5, 0.2])
    fid = FrechetInceptionDistance(feature=Own(), normalize=True, input_img_size=(1, 2, 3)).set_dtype(torch.float64)
    kid = KernelInceptionDistance(feature=Own(), subsets=1, subset_size=500, normalize=True)
    for metric, count in ((fid, 4000), (kid, 500)):
        metric.update(x[:count].reshape(-1, 1, 2, 3), real=True)
        metric.update(y[:count].reshape(-1, 1, 2, 3), real=False)
    assert distance.frechet_distance(x, y) == pytest.approx(fid.compute().item(), rel=0.02)
    assert distance.kernel_distance(x[:500], y[:500]) == pytest.approx(kid.compute()[0].item(), rel=1e-4)


@given(st.integers(0, 1000), st.integers(4, 12), st.integers(4, 12), st.integers(1, 4))
def test_precision_and_recall_are_those_of_loops(seed: int, count: int, others: int, width: int) -> None:
    x, y = features(seed, count, width), features(seed + 1, others, width, 0.5)

    def share(points: np.ndarray, of: np.ndarray) -> float:
        radii = [sorted(np.linalg.norm(a - b) for j, b in enumerate(of) if j != i)[2] for i, a in enumerate(of)]
        inside = [any(np.linalg.norm(p - a) <= r for a, r in zip(of, radii, strict=True)) for p in points]
        return sum(inside) / len(inside)

    assert coverage.precision(x, y) == pytest.approx(share(x.numpy(), y.numpy()))
    assert coverage.recall(x, y) == pytest.approx(share(y.numpy(), x.numpy()))


def test_what_is_drawn_from_one_half_of_the_real_images_is_precise_and_recalls_half() -> None:
    left, right = features(7, 60, 2), features(8, 60, 2, 1000.0)
    real, drawn = torch.cat([left, right]), left + 1e-6
    assert coverage.precision(drawn, real) == 1.0 and coverage.recall(drawn, real) == 0.5
    with pytest.raises(ValueError, match="3 points have no 3 neighbours"):
        coverage.within(left, left[:3])
