"""EDM's preconditioning against table 1 of Karras et al. 2022, written apart."""

import math

import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from denoise.config import compose
from denoise.denoiser.edm import EDM
from denoise.denoiser.preconditioned import Denoiser
from denoise.training.train import prepare

SD = 0.6


class Recorder(nn.Module):
    """A backbone that answers `output` and keeps what it was given."""

    def __init__(self, output: torch.Tensor | float) -> None:
        super().__init__()
        self.output = output

    def forward(self, x, c_noise, labels):
        self.given = (x, c_noise, labels)
        return torch.zeros_like(x) + self.output


def denoiser(output: torch.Tensor | float = 0.0) -> Denoiser:
    return EDM(Recorder(output), sigma_data=SD, P_mean=-1.2, P_std=1.2)


def column(x: torch.Tensor) -> torch.Tensor:
    return x.view(-1, 1, 1, 1)


@given(st.lists(st.floats(0.002, 80), min_size=1, max_size=5))
def test_preconditioning_is_table_1(levels):
    sigma = torch.tensor(levels, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    x, F = (torch.randn(len(levels), 2, 4, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    model = denoiser(F)
    labels = torch.zeros(len(levels), dtype=torch.int64)
    D = model(x, sigma, labels)
    s = column(sigma)
    c_skip = SD**2 / (s**2 + SD**2)
    c_out = s * SD / (SD**2 + s**2) ** 0.5
    c_in = 1 / (s**2 + SD**2) ** 0.5
    torch.testing.assert_close(D, c_skip * x + c_out * F)
    seen, c_noise, passed = model.backbone.given
    torch.testing.assert_close(seen, c_in * x)
    torch.testing.assert_close(c_noise, torch.tensor([math.log(level) / 4 for level in levels], dtype=torch.float64))
    assert passed is labels


@given(st.floats(0.01, 40))
def test_loss_is_the_weighted_error_of_the_denoised(level):
    generator = torch.Generator().manual_seed(1)
    images, noise, F = (torch.randn(3, 1, 4, 4, generator=generator, dtype=torch.float64) for _ in range(3))
    sigma = torch.full((3,), level, dtype=torch.float64)
    model = denoiser(F)
    D = model(images + level * noise, sigma)
    wanted = (level**2 + SD**2) / (level * SD) ** 2 * ((D - images) ** 2).mean(dim=(1, 2, 3))
    torch.testing.assert_close(model.loss(images, sigma, noise), wanted)


@pytest.mark.parametrize("level", [0.01, 0.3, 1.0, 10.0])
def test_loss_at_zero_output_is_one_at_every_noise_level(level):
    torch.manual_seed(0)
    images, noise = SD * torch.randn(400, 1, 8, 8), torch.randn(400, 1, 8, 8)
    assert denoiser().loss(images, torch.full((400,), level), noise).mean().item() == pytest.approx(1, abs=0.03)


def test_the_effective_target_has_unit_variance():
    """What F is to answer, (x - c_skip (x + sigma n)) / c_out: its error is the loss, with weight 1."""
    torch.manual_seed(0)
    images, noise, F = SD * torch.randn(50, 1, 8, 8), torch.randn(50, 1, 8, 8), torch.randn(50, 1, 8, 8)
    sigma = torch.rand(50) + 0.1
    s = column(sigma)
    target = (images - SD**2 / (s**2 + SD**2) * (images + s * noise)) / (s * SD / (s**2 + SD**2).sqrt())
    wanted = (F - target).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(denoiser(F).loss(images, sigma, noise), wanted, rtol=1e-4, atol=1e-4)


@given(st.floats(1e-6, 1 - 1e-6))
def test_noise_levels_are_log_normal(u):
    wanted = scipy.stats.lognorm(s=1.2, scale=math.exp(-1.2)).ppf(u)
    assert denoiser().sigma(torch.tensor([u], dtype=torch.float64)).item() == pytest.approx(wanted, rel=1e-9)


def test_drawn_noise_levels_are_log_normal():
    """Kolmogorov and Smirnov's test on what 60 training steps draw."""
    module = prepare(compose.compose(["trainer.accelerator=cpu", "model.width=8"]).cfg)
    sigma = torch.cat([module.draw(step)[1] for step in range(60)])
    law = scipy.stats.lognorm(s=1.2, scale=math.exp(-1.2))
    assert scipy.stats.kstest(sigma.numpy(), law.cdf).pvalue > 1e-3
    noise = torch.cat([module.draw(step)[2].flatten() for step in range(5)])
    assert scipy.stats.kstest(noise.numpy(), "norm").pvalue > 1e-3


def test_a_fresh_model_starts_at_a_loss_of_about_one():
    module = prepare(compose.compose(["trainer.accelerator=cpu", "model.width=8"]).cfg)
    losses = [module.denoiser.loss(*module.draw(step)).mean().item() for step in range(5)]
    assert sum(losses) / 5 == pytest.approx(1, abs=0.15)
