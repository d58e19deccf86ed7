"""Solvers on a Gaussian, for which the ideal denoiser and the whole path are known."""

import math

import pytest
import torch

from denoise.model.embedding import NO_CLASS
from denoise.model.solver import dpmpp_2m, euler, guided, heun, sigma_steps

MU, SD = 0.3, 0.5


def ideal(x, sigma, labels):
    """E[x0 | x] for x0 ~ N(MU, SD^2)."""
    s = sigma.view(-1, 1, 1, 1)
    return (SD**2 * x + s**2 * MU) / (SD**2 + s**2)


def exact(noise, first: float, last: float):
    """The ODE's solution: (x - MU) scales with sqrt(SD^2 + sigma^2)."""
    return MU + (noise * first - MU) * math.sqrt((SD**2 + last**2) / (SD**2 + first**2))


def grid(steps: int) -> torch.Tensor:
    """Noise levels from 20 to 0.05, a smooth function of the step."""
    return torch.linspace(20 ** (1 / 5), 0.05 ** (1 / 5), steps + 1, dtype=torch.float64) ** 5


def error(solver, steps: int) -> float:
    noise = torch.linspace(-2, 2, 9, dtype=torch.float64).view(-1, 1, 1, 1)
    return (solver(ideal, noise, grid(steps)) - exact(noise, 20, 0.05)).abs().max().item()


@pytest.mark.parametrize(("solver", "order"), [(euler, 1), (heun, 2), (dpmpp_2m, 2)], ids=["euler", "heun", "dpmpp_2m"])
def test_order_of_convergence(solver, order):
    errors = [error(solver, steps) for steps in (64, 128, 256)]
    slopes = [math.log2(a / b) for a, b in zip(errors, errors[1:], strict=False)]
    assert slopes == pytest.approx([order, order], abs=0.15)


@pytest.mark.parametrize(("solver", "steps", "tolerance"), [(heun, 40, 0.02), (dpmpp_2m, 60, 0.02), (euler, 200, 0.03)])
def test_drawn_images_have_the_variance_of_the_data(solver, steps, tolerance):
    noise = torch.randn(4096, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    images = solver(ideal, noise, sigma_steps(steps))
    assert images.std().item() == pytest.approx(SD * noise.std().item(), rel=tolerance)
    assert images.mean().item() == pytest.approx(MU, abs=0.03)


@pytest.mark.parametrize("steps", [2, 18, 40])
def test_noise_levels_are_those_of_edm(steps):
    """Equation 5: from 80 down to 0.002 with rho = 7, then 0."""
    sigmas = sigma_steps(steps)
    i = torch.arange(steps, dtype=torch.float64) / (steps - 1)
    wanted = (80 ** (1 / 7) + i * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    torch.testing.assert_close(sigmas[:-1].double(), wanted, rtol=1e-4, atol=1e-6)
    assert sigmas[-1] == 0 and len(sigmas) == steps + 1 and (sigmas.diff() < 0).all()


@pytest.mark.parametrize(("solver", "evaluations"), [(euler, 6), (heun, 11)], ids=["euler", "heun"])
def test_evaluations_and_labels(solver, evaluations):
    """Heun evaluates twice a step but for the last, which ends at zero noise."""
    labels, seen = torch.arange(3), []

    def denoise(x, sigma, given):
        assert given is labels and sigma.shape == (3,)
        seen.append(sigma[0].item())
        return ideal(x, sigma, given)

    images = solver(denoise, torch.randn(3, 1, 2, 2), sigma_steps(6), labels)
    assert images.shape == (3, 1, 2, 2) and len(seen) == evaluations and min(seen) > 0
    assert not images.requires_grad


def test_guidance_goes_past_the_class() -> None:
    """Of N(m, SD^2) with the class and N(0, SD^2) without, the guided denoiser is that of N(scale m, SD^2)."""

    def gaussian(x, sigma, labels):
        s, mean = sigma.view(-1, 1, 1, 1), torch.where(labels == NO_CLASS, 0.0, MU).view(-1, 1, 1, 1)
        return (SD**2 * x + s**2 * mean) / (SD**2 + s**2)

    x, sigma = torch.linspace(-2, 2, 9).view(-1, 1, 1, 1), torch.full((9,), 0.7)
    for scale in (0.0, 1.0, 3.0):
        found = guided(gaussian, scale)(x, sigma, torch.zeros(9, dtype=torch.int64))
        torch.testing.assert_close(found, (SD**2 * x + 0.7**2 * scale * MU) / (SD**2 + 0.7**2))
