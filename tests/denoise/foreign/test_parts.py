"""Parts that are cut out of a network by patterns of module paths: what is chosen for one acts there alone."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from denoise import best_file
from denoise.config import catalog, legal
from denoise.config.compose import as_yaml, compose
from denoise.errors import UserError
from denoise.foreign.host import Host
from denoise.foreign.operate import operate
from denoise.foreign.rerouting import Put
from denoise.training.build import build_parts, prepare
from search.__main__ import main
from search.space import inert, search_space
from search.trial.config_hash import config_sha256
from tests.denoise.foreign import zoo

pytestmark = [pytest.mark.filterwarnings("ignore")]  # of other libraries
NET = """
import torch
from torch import nn
from torch.nn import functional

class Block(nn.Module):
    def __init__(self, act, gate):
        super().__init__()
        self.act, self.gate = act, gate
        self.norm, self.conv, self.time = nn.GroupNorm(2, 8), nn.Conv2d(8, 8, 1), nn.Linear(1, 8)

    def forward(self, x, e):
        return x + self.conv(self.act(self.norm(x))) + self.gate(self.act(self.time(e)))[:, :, None, None]

class Net(nn.Module):
    \"\"\"Three blocks, which share one activation.\"\"\"

    def __init__(self, channels=1, mid=None, gate=functional.gelu):
        super().__init__()
        torch.manual_seed(0)
        act = nn.SiLU()
        self.first, self.last = nn.Conv2d(channels, 8, 1), nn.Conv2d(8, channels, 1)
        self.down, self.mid, self.up = Block(act, functional.gelu), Block(mid or act, gate), Block(act, functional.gelu)

    def forward(self, x, t):
        e = t[:, None] / 1000
        return self.last(self.up(self.mid(self.down(self.first(x), e), e), e))
"""
BOTH = "model.parts={middle:[mid,mid.*]}"
RELU = "activation@parts.middle.activation=relu"
SHAPE = (1, 8, 8)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    (tmp_path / "net_of_blocks.py").write_text(NET)
    monkeypatch.delitem(sys.modules, "net_of_blocks", raising=False)
    catalog.add_folder(tmp_path)
    return ["model=mine", "model._target_=net_of_blocks.Net", "data=digits", "trainer.num_threads=1"]


def test_what_is_chosen_for_a_part_acts_there_and_nowhere_else(mine: list[str]) -> None:
    """The network is the one in whose middle block relu was written by hand, bit for bit."""
    host = prepare(compose([*mine, BOTH, RELU]).cfg).denoiser.backbone
    by_hand = sys.modules["net_of_blocks"].Net(mid=nn.ReLU(), gate=nn.functional.relu)
    by_hand.load_state_dict(host.net.state_dict())
    x, c_noise = torch.randn(2, *SHAPE), torch.tensor([-0.5, 0.4])
    assert torch.equal(host.eval()(x, c_noise), by_hand(x, host.time_of(c_noise)))
    assert host.part_names == ("residual", "embedding", "middle")
    assert "SiLU at mid.act" in host.listing and "2x8 middle: reached" in host.listing
    assert "SiLU at up.act" in host.listing, "a module that several hold is named by the one that calls it"
    assert host.listing.count(": reached") == 3


def test_weights_and_their_norms_follow_the_part(mine: list[str]) -> None:
    chosen = ["initializer@parts.middle.initializer=constant", "parts.middle.initializer.value=0.5"]
    chosen += ["weight_normalization@parts.middle.weight_normalization=spectral_norm"]
    net = prepare(compose([*mine, BOTH, *chosen]).cfg).denoiser.backbone.net
    plain = prepare(compose(mine).cfg).denoiser.backbone.net
    assert all(p.eq(0.5).all() for n, p in net.mid.named_parameters() if n.endswith("original"))
    assert {n.split(".")[0] for n, _ in net.named_parameters() if "parametrizations" in n} == {"mid"}
    rest = {n: p for n, p in plain.state_dict().items() if not n.startswith("mid.")}
    assert all(torch.equal(net.state_dict()[name], value) for name, value in rest.items())


def test_a_best_file_names_parts(mine: list[str], tmp_path: Path) -> None:
    typed = [*mine, "model.parts={middle:[mid,mid.*],head:last}", RELU, "activation@parts.head.activation=swish"]
    typed += ["parts.head.activation.beta=2.0"]
    path = tmp_path / "best.yaml"
    path.write_text(as_yaml(best_file.content(typed)))
    assert config_sha256(compose(best_file.read(path))) == config_sha256(compose(typed))


def test_a_part_of_layers_alone(mine: list[str]) -> None:
    chosen = ["model.parts={head:last}", "initializer@parts.head.initializer=zeros"]
    net = prepare(compose([*mine, *chosen]).cfg).denoiser.backbone.net
    assert not net.last.weight.any() and net.first.weight.all()


def test_a_search_of_parts_has_those_of_the_users_own(mine: list[str]) -> None:
    typed = [*mine, BOTH, "search=parts"]
    composed = compose(typed, "search")
    space = search_space.build(composed, typed)
    found = inert.find(composed, space)
    own = {place: count for place, count in found.places.items() if "middle" in place}
    assert own == {"activation@parts.middle.activation": 3, "normalization@parts.middle.normalization": 1}
    assert found.places["activation@parts.embedding.activation"] == 4
    assert space.point(composed)["activation@parts.middle.activation"] == "as_built"
    drawn = compose([*typed, "activation@parts.middle.activation=swish", "parts.middle.activation.beta=2.0"], "search")
    assert space.point(drawn)["activation@parts.middle.activation.swish.beta"] == 2.0
    composed = compose([*mine, BOTH, RELU], "search")
    rest = inert.find(composed, search_space.build(composed, [*mine, BOTH, RELU])).places["activation"]
    assert rest == 6, "those of the other blocks: three of nine have a choice of their own"


def test_no_parts_is_the_training_that_it_was(mine: list[str]) -> None:
    plain = config_sha256(compose(mine))
    assert plain == config_sha256(compose([*mine, "model.parts=null"]))
    assert plain != config_sha256(compose([*mine, BOTH]))


@pytest.mark.parametrize(
    ("more", "chosen"),
    [
        (["activation@parts.middle.activation=null"], None),
        (["~activation@parts.middle.activation"], None),
        (["+activation@parts.middle.activation=gelu"], "gelu"),
        (["activation@parts.middle.activation=silu", "activation@parts.middle.activation=gelu"], "gelu"),
        (["model.parts.middle=up.*", "activation@parts.middle.activation=gelu"], "gelu"),
    ],
)
def test_a_choice_is_typed_as_for_the_parts_of_ranks(more: list[str], chosen: str | None) -> None:
    composed = compose(["model=mine", BOTH, *more])
    assert composed.choices["activation@parts.middle.activation"] == chosen
    assert not legal.named_parts(compose(["model=mine", BOTH, "model.parts=null"]).cfg.model)
    assert (composed.cfg.parts.get("middle") is not None) == (chosen is not None)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.parts={residual:mid.*}"], r"^model.parts.residual=mid.\*: residual is the part of all"),
        (["model.parts={a-b:mid.*}"], "^model.parts.a-b=.*not a name"),
        (["model.parts={a:3}"], "^model.parts.a=3: not a pattern"),
        (["model.parts={a:[]}"], "^model.parts.a=.*not a pattern"),
        (["model.parts=mid"], "^model.parts=mid: must map names"),
        (["model.parts.middle=mid"], r"write \+model.parts.middle=mid$"),
        (["model=unet", "model.parts={middle:mid}"], "unet has no such parameter"),
        (["model=unet", "+model.parts.middle=mid"], "adds a key that nothing reads"),
        ([RELU], "nothing takes activation@parts.middle.activation; did you mean"),
        ([BOTH, "activation@parts.midle.activation=relu"], "did you mean 'activation@parts.middle.activation'"),
        ([BOTH, "activation@parts.middle.activation=rellu"], "did you mean 'relu'"),
        ([BOTH, "parts.middle.placement=post"], "no such key"),
        (["model.parts={middle:middle.*}"], r"model.parts.middle=middle.\*: matches no site's path, such as mid"),
        (["model.parts={one:mid.*,other:m*}"], r"one=mid.\* and model.parts.other=m\*: both claim mid"),
    ],
)
def test_what_names_no_part_is_refused_in_one_line(overrides: list[str], message: str, mine: list[str]) -> None:
    with pytest.raises(UserError, match=message) as refused:
        prepare(compose([*mine, *overrides]).cfg)
    assert "\n" not in str(refused.value)


def test_make_sites_shows_the_part_and_refuses(mine: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sites", *mine, "+model.parts.middle=mid.*"]) == 0
    assert "normalization GroupNorm at mid.norm (Block," in (said := capsys.readouterr().out)
    assert said.count(" middle: reached") == 3 and "F.gelu at mid (Block" in said
    assert main(["sites", *mine, "model.parts={middle:nothing}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("function", zoo.parametrized([zoo.unet2d, zoo.sd3, zoo.hand]))
@pytest.mark.parametrize("part", ["residual", "transformer", "embedding"])
def test_a_choice_for_one_rank_leaves_the_calls_of_others(function: Any, part: str) -> None:
    """Of a module that is called on maps and on embeddings one call has another component, the other keeps its own."""
    model, run = zoo.make(function)
    kept = SimpleNamespace(activation=None, normalization=None, feed_forward=None)
    chosen = SimpleNamespace(activation=lambda channels: nn.Softsign(), normalization=None, feed_forward=None)
    each = {name: chosen if name == part else kept for name in ("residual", "transformer", "embedding")}
    done = operate(model, run, SimpleNamespace(**each), kinds=["activation"])
    calls: list[nn.Module] = []
    for module in done.modules:
        module.register_forward_hook(lambda *given: calls.append(given[0]))
    run()
    assert len(calls) == len(done.put) and set(calls) == set(done.modules)
    assert all(site.part == part for site in done.put)


@zoo.needs_libraries
def test_the_middle_of_a_model_of_diffusers(tmp_path: Path) -> None:
    model, _ = zoo.make(zoo.unet2d)
    config = {name: value for name, value in model.config.items() if not name.startswith("_")}
    config |= {"_class_name": "UNet2DModel", "in_channels": 1, "out_channels": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    typed = ["model=diffusers", f"model.path={tmp_path}", "model.parts={mid:mid_block.*}", "trainer.num_threads=1"]
    typed += ["activation@parts.mid.activation=prelu", "normalization@parts.mid.normalization=rms_norm"]
    cfg = compose(typed).cfg
    host = prepare(cfg).denoiser.backbone
    inside = [site for site in host.sites if site.module.startswith("mid_block.")]
    assert inside and all(site.part == "mid" for site in inside)
    assert host.listing.count(": reached") == len(inside)
    new = {name for name, module in host.net.named_modules() if isinstance(module, Put)}
    assert len(new) == len(inside) and all(name.startswith("mid_block.") for name in new)
    loss = host.train()(torch.randn(2, *SHAPE), torch.tensor([-0.5, 0.4])).square().mean()
    loss.backward()
    assert all(p.grad is not None for n, p in host.net.named_parameters() if any(n.startswith(f"{m}.") for m in new))
    assert len(Host(model, (3, 16, 16), parts={"mid": "mid_block.*"}).sites) == len(host.sites)
    assert build_parts(cfg).named.keys() == {"mid"}
