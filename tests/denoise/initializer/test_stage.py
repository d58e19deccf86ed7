"""How a whole network starts: every initializer in both backbones, zero_output, and lsuv on the first batch."""

import pytest
import torch
from torch import nn

from denoise.config import catalog, compose
from denoise.training.module import DenoiseModule
from denoise.training.train import prepare, sha256

TINY = {
    "unet": ["model=unet", "model.width=8", "model.embedding_dim=16", "model.num_heads=2"],
    "dit": ["model=dit", "model.dim=16", "model.depth=2", "model.num_heads=2", "model.embedding_dim=16"],
}
OPTIONS = [option for option in catalog.options("initializer") if not catalog.entry("initializer", option).needs]
both = pytest.mark.parametrize("model", TINY)


def prepared(model: str, *overrides: str) -> DenoiseModule:
    common = ["trainer.accelerator=cpu", "trainer.num_threads=1", "data.batch_size=16"]
    return prepare(compose.compose([*TINY[model], *common, *overrides]).cfg)


def drawn(module: DenoiseModule) -> dict[str, torch.Tensor]:
    return {name: w for name, w in module.denoiser.state_dict().items() if w.ndim >= 2}


# ---------------------------------------------------------------- every initializer


@both
@pytest.mark.parametrize("option", OPTIONS)
def test_every_initializer_builds_both_backbones(option, model):
    module = prepared(model, f"initializer={option}", "zero_output=false")
    biases = {n: p for n, p in module.denoiser.named_parameters() if n.endswith("bias") and "norm" not in n}
    assert biases and all(bias.abs().max() == 0 for bias in biases.values()), "an initializer touches weights"
    assert module.denoiser.loss(*module.draw(0)).isfinite().all()
    again = prepared(model, f"initializer={option}", "zero_output=false")
    assert sha256(again.denoiser.state_dict()) == sha256(module.denoiser.state_dict()), "drawn from keyed streams"
    other = next(o for o in OPTIONS if o != option)
    theirs = drawn(prepared(model, f"initializer={other}", "zero_output=false"))
    assert not all(torch.equal(weight, theirs[name]) for name, weight in drawn(module).items())


@both
@pytest.mark.parametrize("option", OPTIONS)
def test_zero_output_is_an_axis_of_its_own(option, model):
    """True: branches and network say nothing at the start, whatever the initializer. False: it has those layers too."""
    kept, zero = (prepared(model, f"initializer={option}", f"zero_output={value}") for value in ("false", "true"))
    x, c_noise = torch.randn(3, 1, 8, 8), torch.zeros(3)
    assert zero.denoiser.backbone(x, c_noise).abs().max() == 0
    blocks = [module for module in zero.denoiser.backbone.modules() if hasattr(module, "zero_layers")]
    assert len(blocks) > 2 and all(layer.weight.abs().max() == 0 for b in blocks for layer in b.zero_layers())
    speaks = [m.weight.abs().max() > 0 for b in kept.denoiser.modules() for m in getattr(b, "zero_layers", list)()]
    weights = [weight.abs().max() > 0 for name, weight in drawn(kept).items() if "modulation" not in name]
    assert all(speaks) == all(weights), "false: they start as all the others do"


# ---------------------------------------------------------------- lsuv


def variances(module: DenoiseModule) -> dict[str, float]:
    """The variance of each layer's output on the first batch, as a training step would see it."""
    found: dict[str, float] = {}

    def look(name: str):
        return lambda layer, inputs, output: found.update({name: output.double().var(correction=0).item()})

    layers = {n: m for n, m in module.denoiser.backbone.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    hooks = [layer.register_forward_hook(look(name)) for name, layer in layers.items()]
    module.denoiser.train()
    with torch.no_grad():
        module.denoiser.loss(*module.draw(0))
    for hook in hooks:
        hook.remove()
    return found


SETTINGS = {
    "plain": [],
    "speaking": ["zero_output=false"],
    "unnormalized": ["zero_output=false", "normalization=none"],
    "batch_norm": ["zero_output=false", "normalization=batch_norm"],
    "dropout": ["zero_output=false", "dropout=0.3"],
    "classes": ["model.class_conditional=true"],
    "relu": ["activation=relu", "trainer.channels_last=true"],
}


@both
@pytest.mark.parametrize("more", SETTINGS.values(), ids=SETTINGS)
def test_lsuv_gives_every_layer_unit_variance_on_the_first_batch(more, model):
    module = prepared(model, "initializer=lsuv", *more)
    (report,) = module.start
    found = variances(module)
    zeros = {name for name, value in found.items() if value == 0}
    assert set(report.taken) == set(found) - zeros and not report.left
    assert all("modulation" in name or "zero_output=false" not in more for name in zeros)
    assert all(value == pytest.approx(1, abs=0.05) for name, value in found.items() if name not in zeros)
    torch_default = variances(prepared(model, *more))
    assert max(abs(torch_default[name] - 1) for name in report.taken) > 0.3, "it is not so by itself"


@both
@pytest.mark.parametrize("option", catalog.options("weight_normalization"))
def test_lsuv_through_a_weight_normalization(option, model):
    """Unit variance, or, where the normalization fixes the length of a weight, the layer's name with the reason."""
    module = prepared(model, "initializer=lsuv", f"weight_normalization={option}")
    again = prepared(model, "initializer=lsuv", f"weight_normalization={option}")
    assert sha256(module.denoiser.state_dict()) == sha256(again.denoiser.state_dict())
    (report,) = module.start
    found, left = variances(module), dict(report.left)
    assert {name for name, value in found.items() if value} == set(report.taken) | set(left)
    assert all(found[name] == pytest.approx(1, abs=0.1) for name in report.taken)
    assert all("weight normalization" in reason for reason in left.values())


@pytest.mark.parametrize("option", ["weight_norm", "none"])
def test_lsuv_scales_through_weight_norm(option):
    module = prepared("unet", "initializer=lsuv", f"weight_normalization={option}")
    assert len(module.start[0].taken) > 10 and not module.start[0].left


def test_lsuv_of_a_fixed_length_puts_the_layer_back():
    """spectral_norm divides by the largest singular value: no scale of the weight comes through."""
    from denoise.initializer.lsuv import to_unit_variance

    torch.manual_seed(0)
    layer = torch.nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6)).eval()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    x = 3 * torch.randn(50, 6)
    with torch.no_grad():
        output, reason = to_unit_variance(layer, (x,), layer(x))
        assert "fixes its length" in reason and torch.equal(output, layer(x))
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_lsuv_leaves_a_layer_that_nothing_reaches(value):
    from denoise.initializer.lsuv import to_unit_variance

    layer, x = nn.Linear(4, 4), torch.full((5, 4), value)
    nn.init.zeros_(layer.bias)
    before = layer.weight.detach().clone()
    with torch.no_grad():
        _, reason = to_unit_variance(layer, (x,), layer(x))
    assert "variance of" in reason and torch.equal(layer.weight, before)


def test_lsuv_leaves_the_running_averages_and_the_mode():
    module = prepared("unet", "initializer=lsuv", "normalization=batch_norm")
    buffers = dict(module.denoiser.named_buffers())
    averages = {name: value for name, value in buffers.items() if "running" in name}
    assert averages and all(value.unique().item() == ("var" in name) for name, value in averages.items())
    assert all(value.item() == 0 for name, value in buffers.items() if "num_batches" in name)
    assert module.denoiser.training


@both
def test_lsuv_of_one_part_touches_that_part_alone(model):
    own = prepared(model, "initializer@parts.embedding.initializer=lsuv")
    plain, whole = prepared(model), prepared(model, "initializer=lsuv")
    now, before = own.denoiser.state_dict(), plain.denoiser.state_dict()
    changed = {name for name in now if not torch.equal(now[name], before[name])}
    assert changed == {"backbone.embedding.hidden.weight", "backbone.embedding.out.weight"}
    assert sorted(own.start[0].taken) == ["embedding.hidden", "embedding.out"]
    assert len(whole.start) == 1, "the parts that share it are done in one pass, in the order in which they run"


def test_another_seed_is_another_start():
    one, other = (prepared("unet", "initializer=lsuv", f"seed={seed}").denoiser.state_dict() for seed in (0, 1))
    assert sha256(one) != sha256(other)
