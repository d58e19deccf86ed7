"""Every component under torch.func: grad, vmap, jvp and gradients sample by sample are what autograd gives."""

from dataclasses import replace

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap

from denoise.config import catalog, compose
from denoise.model.block import Parts
from denoise.model.dit import DiT
from denoise.model.unet import UNet
from denoise.randomness import Stochastic
from denoise.training.build import build_parts

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")  # torch's own, at its first jvp
CHANNELS = 4
MAPS, TOKENS = (2, CHANNELS, 3, 5), (2, 6, CHANNELS)
COMPONENTS = [(kind, option) for kind in ("activation", "normalization") for option in catalog.options(kind)]
LEARNING = [found for found in COMPONENTS if list(catalog.build(*found, CHANNELS).parameters())]


def case(kind: str, option: str, shape: tuple[int, ...]) -> tuple[nn.Module, dict[str, Tensor], Tensor]:
    """A module in evaluation, its numbers moved off their start, and three batches for it; maps in channels_last."""
    torch.manual_seed(0)
    module = catalog.build(kind, option, CHANNELS).double().eval()
    learned = {name: (p + 0.1 * torch.rand_like(p)).detach() for name, p in module.named_parameters()}
    x = torch.randn(3, *shape, dtype=torch.float64)
    if len(shape) == 4:
        x = x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (3, -1))
    return module, learned, x


def by_autograd(f, inputs: list[Tensor], pull: Tensor) -> list[Tensor]:
    inputs = [one.detach().requires_grad_() for one in inputs]
    return list(torch.autograd.grad(f(*inputs), inputs, pull))


@pytest.mark.parametrize("shape", [MAPS, TOKENS], ids=["map", "tokens"])
@pytest.mark.parametrize(("kind", "option"), COMPONENTS)
def test_the_transforms_give_what_autograd_gives(kind, option, shape):
    module, learned, x = case(kind, option, shape)
    pull, names = torch.randn(shape, dtype=torch.float64), list(learned)

    def f(x: Tensor, *numbers: Tensor) -> Tensor:
        return functional_call(module, dict(zip(names, numbers, strict=True)), (x,))

    def gradients(x: Tensor, numbers: list[Tensor]) -> list[Tensor]:
        return grad(lambda inputs: (f(*inputs) * pull).sum())([x, *numbers])

    numbers = list(learned.values())
    wanted = [by_autograd(f, [one, *numbers], pull) for one in x]
    torch.testing.assert_close(gradients(x[0], numbers), wanted[0])
    torch.testing.assert_close(
        vmap(f, (0, *[None] * len(numbers)))(x, *numbers), torch.stack([f(one, *numbers) for one in x])
    )
    each = vmap(gradients, (0, None))(x, numbers)
    torch.testing.assert_close(each, [torch.stack(parts) for parts in zip(*wanted, strict=True)])
    ways = [torch.randn_like(one) for one in (x[0], *numbers)]
    value, moved = jvp(f, (x[0], *numbers), tuple(ways))
    torch.testing.assert_close(value, f(x[0], *numbers))
    along = sum((way * part).sum() for way, part in zip(ways, wanted[0], strict=True))
    torch.testing.assert_close((moved * pull).sum(), along)


@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized:UserWarning")  # torch's prelu
@pytest.mark.parametrize(("kind", "option"), LEARNING)
def test_an_ensemble_of_what_is_learned_is_each_by_itself(kind, option):
    """One input, several sets of numbers: also where nothing is to be differentiated."""
    module, learned, x = case(kind, option, TOKENS)
    many = {name: torch.stack([p, p + 0.1, p + 0.3]) for name, p in learned.items()}

    def f(numbers: dict[str, Tensor]) -> Tensor:
        return functional_call(module, numbers, (x[0],))

    wanted = torch.stack([f({name: p[i] for name, p in many.items()}) for i in range(3)])
    torch.testing.assert_close(vmap(f)(many), wanted)
    with torch.no_grad():
        torch.testing.assert_close(vmap(f)(many), wanted)


@pytest.mark.parametrize("option", [o for k, o in COMPONENTS if isinstance(catalog.build(k, o, CHANNELS), Stochastic)])
def test_in_training_each_sample_has_its_own_draw(option):
    module = catalog.build("activation", option).train()
    x = torch.full((50, 8), -0.5)
    slopes = vmap(grad(lambda one: module(one).sum()), randomness="different")(x)
    assert slopes.isfinite().all() and len(slopes.unique()) > 1


def test_batch_norm_in_training_is_refused_by_torch():
    """One running average cannot follow many batches; without them it is taken."""
    x = torch.randn(3, *MAPS)
    with pytest.raises(RuntimeError, match="running_mean"):
        vmap(catalog.build("normalization", "batch_norm", CHANNELS))(x)
    module = catalog.build("normalization", "batch_norm", CHANNELS, track=False)
    torch.testing.assert_close(vmap(module)(x), torch.stack([module(one) for one in x]))


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")  # torch's attention
@pytest.mark.parametrize("backbone", [UNet, DiT])
@pytest.mark.parametrize(
    ("kind", "option"),
    [("activation", "mish"), ("activation", "apl"), ("normalization", "rms_norm"), ("normalization", "group_norm")]
    + [(kind, option) for kind in ("weight_normalization", "feed_forward") for option in catalog.options(kind)],
)
def test_gradients_sample_by_sample_of_a_network(kind, option, backbone):
    """In evaluation: what a weight normalization keeps for itself is changed in training."""
    entry = catalog.entry(kind, option)
    part = build_parts(compose.compose([]).cfg).residual
    made = catalog.factory(kind, OmegaConf.create({"_target_": entry.target, **entry.parameters, "space": {}}))
    parts = Parts(*[replace(part, **{kind: made})] * 3, zero_output=False)
    small = {"width": 4} if backbone is UNet else {"dim": 8, "depth": 1}
    torch.manual_seed(0)
    model = backbone((8, 8), 1, 0, parts, num_heads=2, embedding_dim=8, **small).double().eval()
    x, c_noise = torch.randn(3, 1, 8, 8, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    learned = {name: p.detach() for name, p in model.named_parameters()}

    def loss(numbers: dict[str, Tensor], x: Tensor, c_noise: Tensor) -> Tensor:
        return functional_call(model, numbers, (x[None], c_noise[None])).square().sum()

    each = vmap(grad(loss), (None, 0, 0))(learned, x, c_noise)
    for i in range(len(x)):
        one = torch.autograd.grad(model(x[i : i + 1], c_noise[i : i + 1]).square().sum(), list(model.parameters()))
        torch.testing.assert_close([each[name][i] for name in learned], list(one))
