"""What a network predicts, against the definitions of its papers written apart, and against diffusers' schedulers."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from denoise.config import catalog
from denoise.config.compose import compose
from denoise.denoiser.edm import EDM, LogNormal
from denoise.denoiser.ladder import V, ladder
from denoise.denoiser.preconditioned import Denoiser
from denoise.denoiser.scheduler import TARGETS, scheduler
from denoise.errors import UserError
from denoise.model.embedding import NO_CLASS
from denoise.model.solver import euler
from denoise.training.train import prepare

OPTIONS = [name for name in catalog.options("denoiser") if name != "scheduler"]
TYPED = {name: ["trainer.accelerator=cpu", "model.width=8", f"denoiser={name}"] for name in OPTIONS}


class Answer(nn.Module):
    """A backbone that answers what it is given, and keeps what it saw."""

    def forward(self, x, c_noise, labels):
        self.x, self.c_noise = x, c_noise
        return (2 * x).tanh() + 0.1


def made(option: str, backbone: nn.Module) -> Denoiser:
    return catalog.call(compose([f"denoiser={option}"]).cfg.denoiser, backbone, kind="denoiser").double()


def scaled(option: str, image, noise, s):
    """The noisy image as the paper scales it, and what F is to predict, by (alpha, sigma) of its own process."""
    if option == "flow":
        t = s / (1 + s)
        return (1 - t) * image + t * noise, noise - image
    alpha, sigma = (1 / (1 + s**2)).sqrt(), (s**2 / (1 + s**2)).sqrt()
    target = {"epsilon": noise, "x0": image, "v": alpha * noise - sigma * image}[option]
    return alpha * image + sigma * noise, target


@pytest.mark.parametrize("option", [name for name in OPTIONS if name != "edm"])
@given(st.lists(st.floats(0.01, 50), min_size=1, max_size=4), st.integers(0, 10))
def test_the_loss_is_the_error_of_the_prediction(option: str, levels: list[float], seed: int) -> None:
    sigma, draw = torch.tensor(levels, dtype=torch.float64), torch.Generator().manual_seed(seed)
    image, noise = (torch.randn(len(levels), 2, 4, 4, generator=draw, dtype=torch.float64) for _ in range(2))
    model = made(option, backbone := Answer())
    loss = model.loss(image, sigma, noise)
    seen, target = scaled(option, image, noise, sigma.view(-1, 1, 1, 1))
    torch.testing.assert_close(backbone.x, seen)
    torch.testing.assert_close(backbone.c_noise, sigma.log() / 4)
    theirs = (Answer()(seen, None, None) - target).square().flatten(1).mean(1)
    if option == "x0":  # whose weight is min(1 / s^2, 5), of the error of the image itself
        theirs = theirs * torch.minimum(1 / sigma**2, torch.tensor(5.0))
    torch.testing.assert_close(loss, theirs)


@pytest.mark.parametrize("option", ["epsilon", "v", "x0"])
def test_min_snr_is_one_weight_of_the_images_error_for_all(option: str) -> None:
    typed = compose([f"denoiser={option}", "denoiser.min_snr=4"]).cfg.denoiser
    model = catalog.call(typed, nn.Identity(), kind="denoiser")
    assert model.loss_weight(torch.tensor([0.1, 0.5, 2.0])).tolist() == pytest.approx([4.0, 4.0, 0.25])


def test_ladders_are_those_of_the_papers() -> None:
    linear = ladder("linear", 1e-4, 0.02, 1000)
    abar = math.prod(1 - (1e-4 + (0.02 - 1e-4) * t / 999) for t in range(1000))
    assert linear[0].item() == pytest.approx(math.sqrt(1e-4 / (1 - 1e-4))) and len(linear) == 1000
    assert linear[-1].item() == pytest.approx(math.sqrt((1 - abar) / abar), rel=1e-6)
    cosine = ladder("squaredcos_cap_v2", timesteps=100)
    curve = [math.cos((t / 100 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(101)]
    assert cosine[49].item() == pytest.approx(math.sqrt(curve[0] / curve[50] - 1), rel=1e-9)
    assert ladder("scaled_linear", 0.00085, 0.012)[-1].item() == pytest.approx(14.6146, abs=1e-3)  # Stable Diffusion's
    assert ladder(zero_snr=True)[-1] == 1e5 and (ladder(zero_snr=True).diff() > 0).all()
    for wrong in ({"beta_schedule": "sine"}, {"beta_start": -0.1}, {"betas": [0.5, 1.0]}):
        with pytest.raises(UserError, match="denoiser"):
            ladder(**wrong)


@pytest.mark.parametrize("option", ["epsilon", "v", "x0"])
def test_each_level_of_a_ladder_is_trained_on_as_often(option: str) -> None:
    model = made(option, nn.Identity())
    u = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    found, counts = model.sigma(u).unique(return_counts=True)
    assert len(found) == 1000 and set(counts.tolist()) == {10}
    assert found[0].item() == pytest.approx(model.sigma_min) and found[-1].item() == pytest.approx(model.sigma_max)


@given(st.floats(1e-6, 1 - 1e-6))
def test_the_time_of_a_flow_is_logit_normal(u: float) -> None:
    s = made("flow", nn.Identity()).sigma(torch.tensor(u, dtype=torch.float64)).item()
    t = s / (1 + s)
    assert math.log(t / (1 - t)) == pytest.approx(torch.special.ndtri(torch.tensor(u, dtype=torch.float64)).item())


@pytest.mark.parametrize("option", OPTIONS)
def test_one_ruler_measures_all(option: str) -> None:
    """val/loss of a network is that of what it says of the clean image, whatever it was asked for."""
    module = prepare(compose(TYPED[option]).cfg)
    module.setup("fit")
    triples, sd = module.triples, 0.75
    assert triples is not None and isinstance(module.ruler, LogNormal)
    same = prepare(compose(TYPED["edm"]).cfg)
    same.setup("fit")
    assert same.triples is not None and torch.equal(triples.sigma, same.triples.sigma)
    with torch.no_grad():
        noisy = triples.images + triples.sigma[:, None, None, None] * triples.noise
        denoised = module.denoiser(noisy, triples.sigma)
        error = (denoised - triples.images).square().flatten(1).mean(1)
        weight = (triples.sigma**2 + sd**2) / (triples.sigma * sd) ** 2
        torch.testing.assert_close(module._losses(triples), weight * error, rtol=1e-3, atol=1e-4)


def test_the_ruler_on_edm_is_the_loss_of_edm_bit_for_bit() -> None:
    module = prepare(compose(TYPED["edm"]).cfg)
    module.setup("fit")
    images, sigma, noise, *_ = module.draw(0)
    assert isinstance(module.denoiser, EDM)
    ours = module.ruler.loss_weight(sigma) * module.denoiser.error(images, sigma, noise)
    assert torch.equal(ours, module.denoiser.loss(images, sigma, noise))


def test_a_scheduler_config_is_read(tmp_path: Path) -> None:
    def read(**content: object) -> Denoiser:
        (tmp_path / "scheduler").mkdir(exist_ok=True)
        (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps(content))
        return scheduler(nn.Identity(), str(tmp_path))

    found = read(_class_name="DDPMScheduler", prediction_type="v_prediction", beta_schedule="scaled_linear")
    assert isinstance(found, V) and found.sigma_max == pytest.approx(ladder("scaled_linear")[-1].item())
    assert type(read(_class_name="DDIMScheduler")) is TARGETS["epsilon"]
    assert read(_class_name="DDPMScheduler", rescale_betas_zero_snr=True, prediction_type="sample").sigma_max == 1e5
    flow = read(_class_name="FlowMatchEulerDiscreteScheduler", shift=3.0)
    assert flow.sigma(torch.tensor(0.5)).item() == pytest.approx(3.0)  # t' = 3 t / (1 + 2 t) of t = 1/2
    assert read(_class_name="EDMEulerScheduler", sigma_data=0.4).sigma_data == 0.4
    with pytest.raises(UserError, match="prediction_type noise; legal: epsilon, v_prediction, sample"):
        read(_class_name="DDPMScheduler", prediction_type="noise")
    for text in ("{", "[1]", "{}"):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(UserError, match=r"denoiser.path=.*x.json: "):
            scheduler(nn.Identity(), str(tmp_path / "x.json"))
    with pytest.raises(UserError, match=r"denoiser.path=null.*scheduler_config.json"):
        scheduler(nn.Identity())


@pytest.mark.parametrize("prediction", TARGETS)
@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("zero_snr", [False, True])
def test_the_noisy_image_and_the_target_are_those_of_diffusers(
    prediction: str, schedule: str, zero_snr: bool, tmp_path: Path
) -> None:
    diffusers = pytest.importorskip("diffusers", reason="make install EXTRA=diffusers brings it")
    config = {"prediction_type": prediction, "beta_schedule": schedule, "rescale_betas_zero_snr": zero_snr}
    theirs = diffusers.DDPMScheduler(**config)
    (tmp_path / "s.json").write_text(json.dumps({"_class_name": "DDPMScheduler", **config}))
    model = scheduler(backbone := Answer(), str(tmp_path / "s.json"))
    image, noise = (torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    t = torch.tensor([3, 200, 600, 998])
    sigma = model.levels[t]
    loss = model.loss(image, sigma, noise)
    noisy = theirs.add_noise(image, noise, t)
    torch.testing.assert_close(backbone.x, noisy, rtol=1e-4, atol=1e-4)
    target = {"epsilon": noise, "v_prediction": theirs.get_velocity(image, noise, t), "sample": image}[prediction]
    wanted = (Answer()(noisy, None, None) - target).square().flatten(1).mean(1)
    torch.testing.assert_close(loss, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_a_flow_is_that_of_diffusers(shift: float, tmp_path: Path) -> None:
    """FlowMatchEulerDiscreteScheduler: its noise levels, its noisy image, its target, and its steps."""
    diffusers = pytest.importorskip("diffusers", reason="make install EXTRA=diffusers brings it")
    theirs = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    (tmp_path / "s.json").write_text(
        json.dumps({"_class_name": "FlowMatchEulerDiscreteScheduler", **theirs.config}, default=str)
    )
    model = scheduler(backbone := Answer(), str(tmp_path / "s.json"))
    unshifted = torch.arange(999, 0, -1, dtype=torch.float64) / 1000  # 1 itself is noise alone: sigma has no end
    s = model.sigma(torch.special.ndtr(unshifted.logit()))  # the quantile of a time under the standard logit-normal
    torch.testing.assert_close((s / (1 + s)).float(), theirs.sigmas[1:].float(), rtol=1e-5, atol=1e-6)

    image, noise = (torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    at = torch.tensor([1, 200, 600, 998])
    t = theirs.sigmas[at]
    loss = model.loss(image, t / (1 - t), noise)
    noisy = theirs.scale_noise(image, theirs.timesteps[at], noise)
    torch.testing.assert_close(backbone.x, noisy, rtol=1e-4, atol=1e-4)
    wanted = (Answer()(noisy, None, None) - (noise - image)).square().flatten(1).mean(1)
    torch.testing.assert_close(loss, wanted, rtol=1e-3, atol=1e-3)

    theirs.set_timesteps(12)
    theirs.set_begin_index(1)
    x, t = noise, theirs.sigmas[1:]
    for step in theirs.timesteps[1:]:
        x = theirs.step(Answer()(x, None, None), step, x).prev_sample
    start = noise / t[0]  # noise is (1 - t) x of ours
    ours = euler(model, start, t / (1 - t))
    torch.testing.assert_close(ours, x, rtol=1e-4, atol=1e-4)


def test_class_dropout_hides_so_many_classes_and_a_hidden_one_adds_nothing() -> None:
    given = ["trainer.accelerator=cpu", "model.width=8", "model.class_conditional=true"]
    module = prepare(compose([*given, "model.class_dropout=0.25"]).cfg)
    plain = prepare(compose(given).cfg)
    labels = torch.cat([module.draw(step)[3] for step in range(40)])  # type: ignore[misc]
    whole = torch.cat([plain.draw(step)[3] for step in range(40)])  # type: ignore[misc]
    hidden = labels == NO_CLASS
    assert abs(hidden.double().mean().item() - 0.25) < 0.04 and torch.equal(labels[~hidden], whole[~hidden])
    embedding: Any = module.denoiser.backbone.embedding  # type: ignore[union-attr]
    c_noise, none = torch.zeros(2), torch.full((2,), NO_CLASS)
    told = embedding(c_noise, torch.tensor([0, 3]))
    hidden_too = embedding(c_noise, none)
    embedding.label = None
    assert torch.equal(embedding(c_noise, None), hidden_too) and not torch.equal(told, hidden_too)
    for wrong in (["model.class_dropout=0.1"], ["solver.guidance=2"]):
        with pytest.raises(UserError, match=wrong[0]):
            prepare(compose(["trainer.accelerator=cpu", "model.width=8", *wrong]).cfg)
