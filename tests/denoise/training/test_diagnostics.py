"""What the health metrics say of networks whose health is known."""

import inspect
import json
import math
from functools import partial

import pytest
import torch
from hydra.utils import get_object
from torch import nn

from denoise.config import catalog, compose
from denoise.errors import UserError
from denoise.training.diagnostics import (
    MOST_LOOKS,
    LayerFlow,
    content,
    first_bad_layer,
    gradient_norms,
    is_activation,
    learned,
    watching,
)
from denoise.training.train import prepare

OPTIONS = catalog.options("activation")


def activation(option: str = "relu") -> nn.Module:
    cfg = compose.compose([f"activation={option}"]).cfg
    return catalog.factory("activation", cfg.activation)()


def flow(model: nn.Module, x: torch.Tensor) -> dict[str, float]:
    met = LayerFlow()
    with watching(model, is_activation, met.watch):
        model(x)
    return met.metrics()


def module():
    tiny = ["model.width=8", "model.embedding_dim=16", "model.num_heads=2", "trainer.accelerator=cpu"]
    return prepare(compose.compose([*tiny, "data.batch_size=8", "zero_output=false", "activation=relu"]).cfg)


@pytest.mark.parametrize(("bias", "fraction"), [(-1e6, 1.0), (1e6, 0.0)])
def test_a_relu_with_a_huge_bias_is_dead_or_alive(bias, fraction):
    model = nn.Sequential(nn.Linear(4, 6), activation())
    nn.init.constant_(model[0].bias, bias)
    met = flow(model, torch.randn(20, 4))
    assert met["health/dead_fraction"] == met["health/dead_fraction/1"] == fraction
    assert met["health/saturated_fraction"] == met["health/saturated_fraction/1"] == fraction


@pytest.mark.parametrize(
    ("option", "flat"),
    [("relu", lambda x: x <= 0), ("tanh", lambda x: 1 - x.tanh() ** 2 < 0.01), ("silu", None), ("identity", None)],
)
def test_signal_and_flat_entries_are_those_of_the_batch(option, flat):
    if option not in catalog.options("activation"):
        pytest.skip("not in the catalogue yet")
    torch.manual_seed(0)
    x = 2 * torch.randn(16, 40)
    model = nn.Sequential(activation(option))
    met, y = flow(model, x), model(x).double()
    assert met["health/mean/0"] == pytest.approx(y.mean().item(), abs=1e-6)
    assert met["health/variance/0"] == pytest.approx(y.var(correction=0).item(), rel=1e-5)
    wanted = flat(x.double()).double().mean().item() if flat else 0.0
    assert met["health/saturated_fraction/0"] == pytest.approx(wanted, abs=2e-3 if flat else 0.02)


def test_layers_are_met_in_the_order_in_which_they_run():
    m = module()
    met = LayerFlow()
    with watching(m.denoiser.backbone, is_activation, met.watch):
        m.denoiser.loss(*m.draw(0))
    names = list(met.layers())
    assert names[0] == "embedding.hidden_activation" and names[-1] == "activation_out"
    assert names.index("down.0.0.activation_in") < names.index("middle.0.activation_in")
    assert names.index("middle.0.activation_in") < names.index("up.0.0.activation_in")


def test_looking_changes_no_gradient():
    plain, watched = module(), module()
    plain.denoiser.loss(*plain.draw(0)).mean().backward()
    with watching(watched.denoiser, is_activation, LayerFlow().watch):
        watched.denoiser.loss(*watched.draw(0)).mean().backward()
    for (name, p), q in zip(plain.denoiser.named_parameters(), watched.denoiser.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad), name


def test_learned_parameters_are_told_by_layer():
    model = nn.Sequential(nn.Linear(4, 4), activation("prelu"), activation("swish"))
    assert learned(model) == {"health/learned/1.weight": 0.25, "health/learned/2.beta": 1.0}
    assert learned(nn.Sequential(activation("relu"))) == {}


@pytest.mark.parametrize("shape", [(5, 4, 3, 3), (5, 9, 4), (5, 4)], ids=["map", "tokens", "embedding"])
def test_dead_channels_are_counted_in_each_layout(shape):
    """A channel is dead that is zero everywhere; one that is zero somewhere is not."""
    x = torch.ones(shape)
    channel = 1 if len(shape) == 4 else -1
    x.select(channel, 0).fill_(-1)
    x.select(channel, 1)[0] = -1
    model = nn.Sequential(activation())
    assert flow(model, x)["health/dead_fraction"] == 0.25
    assert flow(nn.Sequential(activation("elu")), x)["health/dead_fraction"] == 0


def takes_inplace(option: str) -> bool:
    return "inplace" in inspect.signature(get_object(catalog.entry("activation", option).target)).parameters


class Clamp(nn.Module):
    """An activation that writes over its input without a word."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.clamp = torch.clamp_ if inplace else torch.clamp

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.clamp(x, 0, 0.5)


IN_PLACE = [partial(get_object(catalog.entry("activation", o).target)) for o in OPTIONS if takes_inplace(o)] + [Clamp]


@pytest.mark.parametrize("make", IN_PLACE, ids=lambda make: getattr(make, "func", make).__name__)
def test_an_activation_that_writes_over_its_input_has_the_same_figures(make):
    def figures(inplace: bool) -> tuple[dict[str, float], torch.Tensor]:
        torch.manual_seed(0)
        layer = make(inplace=inplace)
        layer.kind = "activation"
        model, met = nn.Sequential(nn.Linear(5, 40), layer), LayerFlow()
        with watching(model, is_activation, met.watch):
            model(torch.randn(20, 5)).square().sum().backward()
        return met.metrics(), model[0].weight.grad

    (plain, gradient), (over, same) = figures(False), figures(True)
    assert over == plain
    torch.testing.assert_close(same, gradient)  # torch's own gradient from the output has other last bits (elu)


@pytest.mark.parametrize(
    ("override", "path"),
    [
        *((f"activation={o} +activation.inplace=true", "activation") for o in OPTIONS if takes_inplace(o)),
        ("feed_forward=swiglu +feed_forward.gate.inplace=true", "feed_forward.gate"),
        ("activation@parts.residual.activation=relu +parts.residual.activation.inplace=true", "parts.residual"),
    ],
)
def test_what_would_write_over_its_input_is_refused(override, path):
    """With normalization=none relu's input is what the skip connection takes."""
    with pytest.raises(UserError, match=rf"{path}\S*inplace=true: .*legal: false"):
        prepare(compose.compose([*override.split(), "normalization=none"]).cfg)


def test_hooks_are_taken_off():
    model = nn.Sequential(activation())
    with pytest.raises(RuntimeError), watching(model, is_activation, LayerFlow().watch):
        raise RuntimeError
    assert not model[0]._forward_hooks


def test_a_whole_backbone_with_huge_negative_biases_is_dead():
    m = module()
    for _name, layer in m.denoiser.backbone.named_modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.bias, -1e6)
            nn.init.zeros_(layer.weight)
    m.denoiser.backbone.norm_out = nn.Identity()
    met = LayerFlow()
    with watching(m.denoiser, is_activation, met.watch):
        m.denoiser.loss(*m.draw(0))
    assert met.metrics()["health/dead_fraction/backbone.activation_out"] == 1


def test_gradient_norms_are_torchs():
    """Of the matrices, layer by layer in order, and of all of them together."""
    m = module()
    m.denoiser.loss(*m.draw(0)).mean().backward()
    met = gradient_norms(m.denoiser.backbone)
    matrices = {n: p for n, p in m.denoiser.backbone.named_parameters() if p.ndim >= 2}
    for name, p in matrices.items():
        assert met[f"health/gradient_norm/{name.removesuffix('.weight')}"] == pytest.approx(
            p.grad.norm().item(), rel=1e-5
        )
    total = torch.nn.utils.get_total_norm([p.grad for p in matrices.values()]).item()
    assert met["health/gradient_norm"] == pytest.approx(total, rel=1e-5)
    norms = [p.grad.double().norm().item() for p in matrices.values()]
    seen = [norm for norm in norms if norm]
    assert len(seen) > 1 and met["health/gradient_range"] == pytest.approx(math.log10(max(seen) / min(seen)), abs=1e-5)
    assert len(met) == len(matrices) + 2


@pytest.mark.parametrize("option", catalog.options("weight_normalization"))
def test_gradient_norms_name_a_layer_under_weight_normalization_once(option):
    model = nn.Sequential(catalog.build("weight_normalization", option, nn.Linear(3, 4)), nn.Linear(4, 1))
    model(torch.randn(5, 3)).sum().backward()
    layers = {name for name in gradient_norms(model) if "gradient_norm/" in name}
    assert layers == {"health/gradient_norm/0", "health/gradient_norm/1"}


def test_a_layer_without_a_gradient_is_outside_the_range():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    for layer, size in zip(model, (1e-3, 0.0, 10.0), strict=True):
        layer.weight.grad = torch.tensor([[size, 0.0], [0.0, 0.0]])
    assert gradient_norms(model)["health/gradient_range"] == pytest.approx(4, abs=1e-6)


def test_the_looks_are_one_file_by_layer_and_step():
    looks = [(s, {"health/mean/a": s / 3, "health/mean": 0.5, "health/learned/a.beta": math.inf}) for s in range(500)]
    found = json.loads(content([*looks, (500, {"health/mean/b": math.nan})]), parse_constant=pytest.fail)
    assert (found["steps"][0], found["steps"][-1], len(found["steps"])) == (0, 500, MOST_LOOKS)
    assert found["layers"]["b"]["mean"] == [None] * (MOST_LOOKS - 1) + ["nan"]
    assert found["network"]["mean"][0] == 0.5 and found["layers"]["a.beta"]["learned"][0] == "inf"
    for step, value in zip(found["steps"][:-1], found["layers"]["a"]["mean"], strict=False):
        assert value == pytest.approx(step / 3, rel=1e-5)


def test_no_gradient_no_metric():
    assert gradient_norms(nn.Linear(2, 2)) == {}


@pytest.mark.parametrize(
    "layer", ["conv_in", "embedding.hidden", "down.0.0.conv_in", "down.1.1.attention.qkv", "middle.0.norm", "conv_out"]
)
def test_first_bad_layer_is_the_one_that_was_spoilt(layer):
    m = module()
    spoilt = m.denoiser.backbone.get_submodule(layer)
    with torch.no_grad():
        weight = next(spoilt.parameters())
        weight[(0,) * weight.ndim] = float("nan")
    found = first_bad_layer(m.denoiser, lambda: m.denoiser.loss(*m.draw(0)))
    assert found.startswith(f"backbone.{layer}")


def test_without_a_bad_layer_the_loudest_is_named():
    m = module()
    with torch.no_grad():
        m.denoiser.backbone.down[1][1].feed_forward.hidden.weight.mul_(1e5)
    found = first_bad_layer(m.denoiser, lambda: m.denoiser.loss(*m.draw(0)))
    assert found.startswith("backbone.down.1.1.feed_forward")
