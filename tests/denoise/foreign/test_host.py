"""The host: how a network is called, what it is told of the noise, what moves with it, and what is refused."""

import copy
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from denoise.config import catalog, trust
from denoise.config.compose import compose
from denoise.errors import UserError
from denoise.evaluation import inspection, reach
from denoise.foreign.arguments import ladder, step_of
from denoise.foreign.host import Host, host
from denoise.optimizer import parameter_groups
from denoise.randomness import Clock, attach
from denoise.training.build import prepare
from denoise.training.train import train
from search.space import inert, search_space
from tests.denoise.foreign.zoo import HandUNet, needs_libraries

pytestmark = [pytest.mark.filterwarnings("ignore")]  # of other libraries
SHAPE = (3, 8, 8)
NET = """
import torch
from torch import nn
from torch.nn import functional

class Net(nn.Module):
    def __init__(self, channels, width=8, num_classes=0):
        super().__init__()
        self.first, self.norm = nn.Conv2d(channels, width, 3, padding=1), nn.GroupNorm(2, width)
        self.time, self.last = nn.Linear(1, width), nn.Conv2d(width, channels, 3, padding=1)
        self.gain, self.drop = nn.Parameter(torch.ones(1, width, 1, 1)), nn.Dropout(0.2)
        self.table = nn.Embedding(num_classes or 1, width)
        nn.init.zeros_(self.last.weight)

    def forward(self, x, t, y=None):
        e = self.time(t[:, None] / 1000) + (0 if y is None else self.table(y))
        h = self.norm(self.first(x)) * self.gain + functional.silu(e)[:, :, None, None]
        return self.last(self.drop(functional.silu(h)))

class Wrong(Net):
    def forward(self, x, t, y=None):
        raise NotImplementedError("not today")
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A folder with net.py alone, as it is typed."""
    (tmp_path / "net_of_mine.py").write_text(NET)
    monkeypatch.delitem(sys.modules, "net_of_mine", raising=False)
    catalog.add_folder(tmp_path)
    assert trust.homes[-1] == tmp_path
    return ["model=mine", "model._target_=net_of_mine.Net", "data=digits", "trainer.num_threads=1"]


def batch(host: Host) -> tuple[Tensor, Tensor]:
    return torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0)), torch.tensor([-0.5, 0.4])


class Says(nn.Module):
    """A network that returns what it is called with, by a function of the test's."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.weight, self.answer = nn.Parameter(torch.ones(())), answer

    def forward(self, sample: Tensor, timestep: Tensor, class_labels: Tensor | None = None) -> Any:
        return self.answer(sample * self.weight, timestep, class_labels)


def told(time: str, c_noise: float) -> float:
    host = Host(Says(lambda x, t, y: x * 0 + t.float()[:, None, None, None]), SHAPE, time=time)
    return float(host(torch.zeros(1, *SHAPE), torch.tensor([c_noise]))[0, 0, 0, 0])


@settings(max_examples=20, deadline=None)
@given(st.floats(math.log(0.002) / 4, math.log(80) / 4))
def test_the_noise_level_in_each_unit(c_noise: float) -> None:
    sigma = math.exp(4 * c_noise)
    assert told("c_noise", c_noise) == pytest.approx(c_noise, rel=1e-6)
    assert told("sigma", c_noise) == pytest.approx(sigma, rel=1e-4)
    assert told("t01", c_noise) == pytest.approx(sigma / (1 + sigma), rel=1e-4)


def test_a_step_has_the_noise_level_of_the_ladder() -> None:
    """x_t = sqrt(a) x0 + sqrt(1 - a) e, in float64; between steps it lies between, at the ends it stays."""
    kept, expected = 1.0, []
    for step in range(1000):
        kept *= 1 - (1e-4 + (0.02 - 1e-4) * step / 999)
        expected.append(0.5 * math.log((1 - kept) / kept))
    steps = ladder()
    assert torch.allclose(steps, torch.tensor(expected, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(
        step_of(steps[[0, 1, 500, 999]], steps), torch.tensor([0.0, 1, 500, 999], dtype=torch.float64)
    )
    between = step_of((steps[3:4] + steps[4:5]) / 2, steps)
    assert 3 < float(between) < 4
    assert step_of(torch.tensor([-20.0, 20.0], dtype=torch.float64), steps).tolist() == [0, 999]


@needs_libraries
def test_the_ladder_is_that_of_the_scheduler() -> None:
    from diffusers import DDPMScheduler

    kept = DDPMScheduler().alphas_cumprod.double()
    assert torch.allclose(ladder(), ((1 - kept) / kept).log() / 2, atol=1e-4)


class Sample:
    def __init__(self, sample: Tensor) -> None:
        self.sample = sample


@pytest.mark.parametrize(
    ("answer", "returns"),
    [
        (lambda x, t, y: x, "auto"),
        (lambda x, t, y: x, "tensor"),
        (lambda x, t, y: Sample(x), "auto"),
        (lambda x, t, y: Sample(x), "sample"),
        (lambda x, t, y: {"sample": x}, "auto"),
        (lambda x, t, y: (x, None), "auto"),
        (lambda x, t, y: [x], "[0]"),
        (lambda x, t, y: [x], [0]),
        (lambda x, t, y: torch.cat([x, x + 1], 1), "auto"),
    ],
)
def test_what_a_network_returns_is_read(answer: Any, returns: Any) -> None:
    host = Host(Says(answer), SHAPE, returns=returns)
    x, c_noise = batch(host)
    assert torch.equal(host(x, c_noise), x)


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)

    def forward(self, noisy_one: Tensor, level: Tensor, kind: Tensor | None = None) -> Tensor:
        return self.layer(noisy_one) + level[:, None, None, None] * (1 if kind is None else 2)


def test_the_arguments_of_a_network_can_be_named() -> None:
    with pytest.raises(
        UserError, match=r"which argument of Named.forward\(noisy_one, level, kind\) is the noise level"
    ):
        Host(Named(), SHAPE)
    host = Host(Named(), SHAPE, 2, call="noisy_one/level/kind", time="c_noise")
    x, c_noise = batch(host)
    assert not torch.equal(host(x, c_noise, torch.tensor([0, 1])), host(x, c_noise))


class Whole(nn.Module):
    """Steps are rows of a table, and there must be a label."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.labels, self.layer = nn.Embedding(1000, 3), nn.Embedding(4, 3), nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return self.layer(x) + (self.table(t) + self.labels(y))[:, :, None, None]


def test_whole_steps_and_a_label_are_given_to_who_takes_no_others() -> None:
    host = Host(Whole(), SHAPE)
    assert host.whole and host.blank and host(*batch(host)).shape == (2, *SHAPE)


@pytest.mark.parametrize(
    ("net", "settings", "message"),
    [
        (Says(lambda x, t, y: x[:, :1]), {}, "returns 2x1x8x8 for images of 2x3x8x8"),
        (Says(lambda x, t, y: (None, x)), {}, "returns a tuple of NoneType, Tensor"),
        (Says(lambda x, t, y: x / 0), {}, "returns NaN or infinity"),
        (
            Says(lambda x, t, y: x @ torch.ones(5, 5)),
            {},
            r"refuses images of 2x3x8x8: RuntimeError.*cannot be multiplied",
        ),
        (nn.Identity(), {}, "Identity has no parameters"),
        (Says(lambda x, t, y: x), {"time": "t100"}, "model.time=t100: unknown; did you mean 't1000'"),
        (Says(lambda x, t, y: x), {"returns": "first"}, "model.returns=first: unknown"),
        (Says(lambda x, t, y: x), {"call": "sample/when"}, "has no when"),
        (
            Named(),
            {"call": "noisy_one/level/-", "num_classes": 3},
            "class_conditional=true: Named.forward takes no labels",
        ),
    ],
)
def test_what_cannot_be_hosted_is_refused_in_one_line(net: nn.Module, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        Host(net, SHAPE, **settings)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model._target_=os.system"], "_target_ os.system is not trusted"),
        (["model._target_=net_of_mine.Wrong"], "Wrong refuses images of 2x1x8x8: NotImplementedError: not today"),
        (["model._target_=net_of_mine.Net", "model.kwargs={widht:3}"], "unexpected keyword argument 'widht'"),
        (["dropout=0.2"], "dropout=0.2: a model of your own has its own dropout"),
        (["parts.residual.placement=post"], "parts.residual.placement=post: a model of your own"),
        (["parts.transformer.dropout=0.1"], "a Host has no such part|parts.transformer"),
    ],
)
def test_a_config_of_it_that_says_nothing_is_refused(overrides: list[str], message: str, mine: list[str]) -> None:
    with pytest.raises(UserError, match=message):
        prepare(compose([*mine, *overrides]).cfg)


@pytest.mark.parametrize("kind", ["activation", "normalization", "feed_forward", "initializer"])
@pytest.mark.parametrize("model", ["unet", "dit"])
def test_as_built_is_nothing_for_our_own(kind: str, model: str) -> None:
    with pytest.raises(UserError, match=f"{kind}=as_built: keeps what a model of your own has"):
        prepare(compose([f"model={model}", f"{kind}=as_built"]).cfg)
    assert "as_built" not in catalog.options(kind)
    composed = compose([f"model={model}", "search=joint"], "search")
    assert "as_built" not in search_space.build(composed, [f"model={model}", "search=joint"]).options[kind]


def test_the_baseline_is_the_model_untouched(mine: list[str]) -> None:
    module = prepare(compose([*mine, "model.kwargs={width:16}"]).cfg)
    net = module.denoiser.backbone.net
    assert [type(m).__name__ for m in net.modules()] == "Net Conv2d GroupNorm Linear Conv2d Dropout Embedding".split()
    assert not net.last.weight.any() and net.first.bias.any() and net.first.out_channels == 16
    again = prepare(compose([*mine, "model.kwargs={width:16}"]).cfg)
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), again.parameters(), strict=True))


class Wide(nn.Module):
    """`channels` is a width here, and the class has classes of its own unless it is told."""

    def __init__(self, in_channels: int, channels: int = 7, num_classes: int = 5) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(in_channels, channels, 1), nn.Conv2d(channels, in_channels, 1)
        self.table = nn.Embedding(num_classes, channels)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return self.last(self.first(x) + (0 if y is None else self.table(y)[:, :, None, None]))


@pytest.mark.parametrize(("num_classes", "rows"), [(0, 5), (3, 3)])
def test_what_the_data_say_is_passed_where_it_is_meant(num_classes: int, rows: int) -> None:
    trust.allow([__name__])
    net = host({"_target_": f"{__name__}.Wide", "call": "auto"}, (2, 8, 8), num_classes).net
    assert (net.first.in_channels, net.first.out_channels, net.table.num_embeddings) == (2, 7, rows)


def test_plain_layers_of_a_model_s_own_are_refused_in_one_line(mine: list[str]) -> None:
    with pytest.raises(UserError, match="such as normalization=group_norm initializer=torch_default$"):
        inspection.inspect(compose([*mine, "activation=relu"]).cfg)
    chosen = ["activation=relu", "normalization=group_norm", "initializer=torch_default"]
    found = inspection.inspect(compose([*mine, *chosen, "normalization.num_groups=2"]).cfg)
    assert [layer.name for layer in found.network] == [
        "net.replaced_calls.silu_0.module",
        "net.replaced_calls.silu_1.module",
    ]


def test_a_training_records_its_sites(mine: list[str]) -> None:
    short = ["trainer.max_steps=2", "trainer.val_samples=4", "trainer.gap_samples=0", "solver.steps=2"]
    cfg = compose([*mine, *short, "activation=relu"]).cfg
    result = train(cfg)
    assert result.metrics["reach/activation"] == 1 and result.metrics["reach/normalization"] == 1
    assert result.sites.count(": reached") == 2 and "stays as built" in result.sites


def test_an_initializer_reaches_what_is_asked_for_and_leaves_what_starts_at_zero(mine: list[str]) -> None:
    net = prepare(compose([*mine, "initializer=constant", "initializer.value=0.5"]).cfg).denoiser.backbone.net
    assert net.first.weight.eq(0.5).all() and net.time.weight.eq(0.5).all() and not net.first.bias.any()
    assert not net.last.weight.any() and net.gain.eq(1).all()
    open_ = ["initializer=constant", "initializer.value=0.5", "zero_output=false"]
    assert prepare(compose([*mine, *open_]).cfg).denoiser.backbone.net.last.weight.eq(0.5).all()


class Layers(nn.Module):
    """One of each layer; a frozen one, a tied one, and one that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.up = nn.Conv2d(3, 8, 2, stride=2), nn.ConvTranspose2d(8, 3, 2, stride=2)
        self.line, self.twice = nn.Conv1d(8, 8, 1), nn.Linear(8, 8)
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.3, batch_first=True)
        self.frozen, self.table, self.tied = nn.Linear(8, 8), nn.Embedding(8, 8), nn.Linear(8, 8, bias=False)
        self.frozen.requires_grad_(False)
        self.tied.weight = self.table.weight
        self.place = nn.Parameter(torch.randn(1, 16, 8))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h = self.conv(x).flatten(2)
        h = self.line(h).transpose(1, 2) + self.place
        h = h + self.attention(h, h, h, need_weights=False)[0]
        h = self.twice(functional.gelu(self.twice(h)))
        return self.up(
            (self.tied(self.frozen(h)) + self.table(t.long() % 8)[:, None]).transpose(1, 2).unflatten(2, (4, 4))
        )


def parts_of(overrides: list[str]) -> Any:
    from denoise.training.build import build_parts

    return build_parts(compose(["model=mine", *overrides]).cfg)


def test_each_kind_of_layer_is_initialized_and_what_is_frozen_or_tied_is_not() -> None:
    host = Host(Layers(), SHAPE)
    before = copy.deepcopy(host.net.state_dict())
    parts = parts_of(["initializer=orthogonal", "weight_normalization=weight_norm"])
    host.operate(parts)
    host.initialize(parts, 0)
    net = host.net
    eye = torch.eye(8)
    for third in net.attention.in_proj_weight.chunk(3):
        assert torch.allclose(third @ third.T, eye, atol=1e-5)
    rows = net.up.weight.transpose(0, 1).flatten(1)
    assert torch.allclose(rows @ rows.T, torch.eye(3), atol=1e-5)
    for layer in (net.conv, net.line, net.twice):
        assert torch.allclose(layer.weight.flatten(1) @ layer.weight.flatten(1).T, eye, atol=1e-5)
    after = net.state_dict()
    for name in ("frozen.weight", "frozen.bias", "table.weight", "place"):
        assert torch.equal(after[name], before[name])
    assert net.tied.weight is net.table.weight and not net.frozen.weight.requires_grad
    normed = {name.partition(".")[0] for name, _ in net.named_parameters() if "parametrizations" in name}
    assert normed == {"conv", "line", "attention"}, "not what runs twice, is frozen, tied, or has its outputs last"


def test_forced_magnitudes_train_where_a_layer_runs_twice() -> None:
    host = Host(Layers(), SHAPE)
    parts = parts_of(["weight_normalization=magnitude_preserving"])
    host.operate(parts)
    host.initialize(parts, 0)
    host.train()
    host(*batch(host)).square().mean().backward()


def test_decay_and_muon_go_to_the_weights_of_layers_alone() -> None:
    host = Host(Layers(), SHAPE)
    matrices, rest = ({id(p) for p in group["params"]} for group in parameter_groups(host))
    net = host.net
    assert matrices == {
        id(p)
        for p in (
            net.conv.weight,
            net.up.weight,
            net.line.weight,
            net.twice.weight,
            net.attention.in_proj_weight,
            net.attention.out_proj.weight,
        )
    }
    assert {id(net.table.weight), id(net.place), id(net.conv.bias)} <= rest
    assert not {id(p) for p in net.frozen.parameters()} & (matrices | rest)


def test_a_learned_gain_by_hand_is_no_matrix() -> None:
    (_, rest) = parameter_groups(Host(HandUNet(), SHAPE))
    assert (1, 16, 1, 1) in {tuple(p.shape) for p in rest["params"]}


def test_two_forwards_of_a_step_draw_the_same_and_two_steps_do_not() -> None:
    host = Host(Layers(), SHAPE).train()
    attach(host, clock := Clock(3))
    x, c_noise = batch(host)
    first, generator = host(x, c_noise), torch.get_rng_state()
    assert host.draws and torch.equal(host(x, c_noise), first) and torch.equal(torch.get_rng_state(), generator)
    clock.step = 1
    assert not torch.equal(host(x, c_noise), first)
    assert not Host(HandUNet(), SHAPE).draws


def test_a_look_counts_by_surgery(mine: list[str]) -> None:
    cfg = compose([*mine, "search=ablation", "search.scientific=[activation]"], "search")
    seen = reach.look(cfg.cfg)
    assert seen.places["activation", "residual"] == seen.places["activation", "embedding"] == 1
    assert seen.places["normalization", "residual"] == 1 and ("feed_forward", "transformer") not in seen.places
    space = search_space.build(cfg, [*mine, "search=ablation", "search.scientific=[activation]"])
    found = inert.find(cfg, space)
    assert found.idle == ["feed_forward"] and found.places["activation"] == 2
    assert space.point(cfg)["activation"] == "as_built"
    cfg = compose([*mine, "search=ablation", "search.scientific=[feed_forward]"], "search")
    with pytest.raises(UserError, match="search.scientific: feed_forward: this network takes none"):
        inert.leave_out(cfg, found)


EITHER = "{type:categorical,choices:[true,false]}"


@pytest.mark.parametrize(("initializers", "acts"), [("fixed", False), ("[as_built,orthogonal]", True)])
def test_zero_output_acts_where_an_initializer_does(initializers: str, acts: bool, mine: list[str]) -> None:
    typed = [*mine, f"search.kinds.initializer={initializers}", f"+search.domains.zero_output={EITHER}"]
    typed += ["+search.domains.dropout={type:float,low:0.0,high:0.3}", "search.kinds.normalization=fixed"]
    cfg = compose(typed, "search")
    found = inert.find(cfg, search_space.build(cfg, typed))
    assert ("zero_output" not in found.idle) == acts and "dropout" in found.idle


@needs_libraries
class TestDiffusers:
    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        from diffusers import UNet2DModel

        settings: dict[str, Any] = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
        torch.manual_seed(1)
        model = UNet2DModel(8, 1, 1, block_out_channels=(8,), norm_num_groups=2, layers_per_block=1, **settings)
        model.save_pretrained(found := tmp_path_factory.mktemp("unet"))
        return found

    def prepared(self, folder: Path, *overrides: str) -> Any:
        typed = ["model=diffusers", f"model.path={folder}", "trainer.num_threads=1", *overrides]
        return prepare(compose(typed).cfg).denoiser.backbone

    def test_a_folder_or_its_config_is_read_with_random_weights(self, folder: Path) -> None:
        first, again = self.prepared(folder), self.prepared(folder / "config.json")
        assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
        assert not torch.equal(next(first.parameters()), next(self.prepared(folder, "seed=1").parameters()))

    def test_weights_are_read_before_anything_is_replaced(self, folder: Path) -> None:
        from safetensors.torch import load_file

        kept = load_file(folder / "diffusion_pytorch_model.safetensors")
        host = self.prepared(folder, "model.weights=keep")
        assert kept.keys() == host.net.state_dict().keys()
        assert all(torch.equal(value, kept[name]) for name, value in host.net.state_dict().items())
        more = ["model.weights=keep", "activation=prelu", "weight_normalization=weight_norm"]
        host = self.prepared(folder, *more)
        assert torch.allclose(host.net.conv_in.weight, kept["conv_in.weight"], atol=1e-6)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, "holds no config.json"),
            ("{", "config.json cannot be read"),
            ("{}", "names no _class_name"),
            ('{"_class_name": "os"}', "its _class_name is os, which is no model of diffusers"),
            ('{"_class_name": "DDPMScheduler"}', "DDPMScheduler, which is no model"),
        ],
    )
    def test_what_is_no_model_is_refused(self, content: str | None, message: str, tmp_path: Path) -> None:
        if content is not None:
            (tmp_path / "config.json").write_text(content)
        with pytest.raises(UserError, match=message):
            self.prepared(tmp_path)

    def test_a_model_for_other_images_is_refused_in_the_words_of_torch(self, folder: Path, tmp_path: Path) -> None:
        config = json.loads((folder / "config.json").read_text()) | {"in_channels": 3}
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(
            UserError, match=r"UNet2DModel refuses images of 2x1x8x8: RuntimeError.*channels"
        ) as refused:
            self.prepared(tmp_path)
        assert "\n" not in str(refused.value)


def test_where_the_library_is_missing_its_install_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    with pytest.raises(UserError, match="make install EXTRA=diffusers"):
        prepare(compose(["model=diffusers", f"model.path={tmp_path}"]).cfg)
