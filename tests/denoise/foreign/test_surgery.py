"""Surgery on sixteen architectures: what runs, what is reached, what is left and why; and the traps of replacing."""

import copy
import re
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import CellType, FunctionType, SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from denoise.config import catalog
from denoise.foreign.census import census
from denoise.foreign.functions import ACTIVATION_OPERATORS, NORM_OPERATORS
from denoise.foreign.operate import Operation, operate
from denoise.foreign.sites import ATTENTION, BY_HAND, GATE, find
from tests.denoise.foreign import zoo

KINDS = ("activation", "normalization", "feed_forward")
TABLE = {  # model: sites reached and sites of activations, of norms, of feed-forwards
    "unet2d": ((38, 38), (31, 31), (0, 0)),
    "unet2d_scale_shift": ((38, 38), (30, 30), (0, 0)),
    "unet2d_condition": ((30, 30), (33, 33), (4, 4)),
    "dit": ((8, 8), (5, 5), (2, 2)),
    "sd3": ((10, 10), (16, 16), (3, 3)),
    "flux": ((9, 9), (12, 12), (2, 2)),
    "pixart": ((5, 5), (5, 5), (2, 2)),
    "sana": ((7, 11), (6, 6), (0, 0)),
    "vae": ((22, 22), (24, 24), (0, 0)),
    "vit": ((2, 3), (5, 5), (2, 2)),
    "bert": ((2, 3), (5, 5), (0, 0)),
    "llama": ((2, 2), (5, 5), (2, 2)),
    "dinov2": ((2, 2), (5, 5), (2, 2)),
    "clip": ((2, 2), (5, 5), (2, 2)),
    "encoder": ((2, 2), (4, 4), (0, 0)),
    "hand": ((14, 17), (10, 11), (0, 0)),
}


@pytest.fixture(autouse=True)
def quiet() -> Any:
    """The libraries warn of many things; the fused path is as it was afterwards."""
    before = torch.backends.mha.get_fastpath_enabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch.backends.mha.set_fastpath_enabled(before)


def factory(kind: str, option: str) -> Callable[..., nn.Module]:
    entry = catalog.entry(kind, option)
    return catalog.factory(kind, OmegaConf.create({"_target_": entry.target, **entry.parameters}))


def parts(**options: str) -> Any:
    chosen = SimpleNamespace(**{kind: factory(kind, options[kind]) if kind in options else None for kind in KINDS})
    return SimpleNamespace(residual=chosen, transformer=chosen, embedding=chosen)


def operators(model: nn.Module, run: Callable[[], Tensor]) -> Counter[str]:
    return Counter(operator.name for operator in census(model, run).operators)


def output(model: nn.Module, run: Callable[[], Tensor]) -> Tensor:
    model.eval()
    with torch.no_grad():
        return run()


@pytest.mark.parametrize("make", zoo.parametrized(zoo.ALL))
def test_the_table(make: Any) -> None:
    """Each activation and norm that runs is a site; those reached are replaced, and no operator of them is left."""
    model, run = zoo.make(make)
    torch.backends.mha.set_fastpath_enabled(False)  # which rounds otherwise
    before = output(model, run)
    sites, taken = find(model, run)
    assert torch.equal(output(model, run), before), "a census changes nothing"
    ran = [operator for operator in taken.operators]
    for kind in ("activation", "normalization"):
        assert sum(site.kind == kind for site in sites) == sum(operator.kind == kind for operator in ran)
    counts = {k: (sum(s.kind == k and not s.why for s in sites), sum(s.kind == k for s in sites)) for k in KINDS}
    assert tuple(counts.values()) == TABLE[make.__name__]
    assert all(":" in site.line and site.owner for site in sites), "each is named with file and line"

    done = operate(model, run, parts(activation="prelu", normalization="rms_norm"))
    assert not torch.equal(output(model, run), before)
    left = Counter(operator.name for operator in ran if operator.name in ("sigmoid", "tanh", "relu"))
    after = operators(model, run)
    assert after["_prelu_kernel"] == counts["activation"][0]
    assert not {name for name in after if name in ("silu", "gelu", "native_layer_norm")}
    assert after["native_group_norm"] == counts["normalization"][1] - counts["normalization"][0]
    assert sum(left.values()) >= sum(after[name] for name in ("sigmoid", "tanh", "relu"))
    model.train()
    run().float().square().mean().backward()
    for module in done.modules:
        assert all(p.grad is not None for p in module.parameters() if p.requires_grad), "each learns"


EXPORTED = {"group_norm": "native_group_norm", "layer_norm": "native_layer_norm", "rms_norm": "rsqrt"}  # names before


@pytest.mark.parametrize("make", zoo.parametrized(zoo.ALL))
def test_the_census_counts_what_export_counts(make: Any) -> None:
    """torch.export, which traces without these modes and hooks, has as many of each operator in its graph."""
    model, run = zoo.make(make)
    model.train()
    torch.backends.mha.set_fastpath_enabled(False)
    given: list[Any] = []
    with model.register_forward_pre_hook(lambda _, *each: given.append(each), with_kwargs=True):
        run()
    exported = torch.export.export(model, *given[0], strict=False)
    aten = (str(node.target).split(".")[1] for node in exported.graph.nodes if str(node.target).startswith("aten."))
    names = Counter(EXPORTED.get(name, name) for name in aten)
    found = operators(model, run)
    known = {*ACTIVATION_OPERATORS, *NORM_OPERATORS, *EXPORTED, "batch_norm", "instance_norm", "prelu"}
    assert {name: count for name, count in names.items() if name in known} == found


@pytest.mark.parametrize("make", zoo.parametrized([zoo.unet2d, zoo.vae, zoo.llama]))
def test_silu_for_silu_is_the_same_to_the_last_bit(make: Any) -> None:
    model, run = zoo.make(make)
    before = output(model, run)
    done = operate(model, run, parts(activation="silu"))
    assert done.put and torch.equal(output(model, run), before)


@pytest.mark.parametrize("make", zoo.parametrized([zoo.unet2d, zoo.vae]))
def test_group_norm_for_group_norm_is_the_same(make: Any) -> None:
    model, run = zoo.make(make)
    before = output(model, run)
    eps = {module.eps for module in model.modules() if isinstance(module, nn.GroupNorm)}
    made = catalog.factory(
        "normalization",
        OmegaConf.create(
            {"_target_": catalog.entry("normalization", "group_norm").target, "num_groups": 4, "eps": eps.pop()}
        ),
    )
    if eps:
        pytest.skip("several epsilons")
    one = SimpleNamespace(activation=None, feed_forward=None, normalization=made)
    operate(model, run, SimpleNamespace(residual=one, transformer=one, embedding=one))
    assert (output(model, run) - before).abs().max() < 1e-5


@pytest.mark.parametrize("make", zoo.parametrized([zoo.dit, zoo.unet2d_condition, zoo.llama, zoo.vit]))
@pytest.mark.parametrize("option", ["mlp", "swiglu"])
def test_a_feed_forward_is_replaced_with_as_many_parameters(make: Any, option: str) -> None:
    model, run = zoo.make(make)
    before, count = output(model, run), sum(p.numel() for p in model.parameters())
    done = operate(model, run, parts(feed_forward=option))
    assert len(done.put) == TABLE[make.__name__][2][1] and not torch.equal(output(model, run), before)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(count, rel=0.03)


@pytest.mark.parametrize("make", zoo.parametrized([zoo.dit, zoo.unet2d, zoo.hand]))
def test_a_copy_computes_with_its_own_weights(make: Any) -> None:
    """A forward that is patched on an instance would compute with the original's."""
    model, run = zoo.make(make)
    operate(model, run, parts(activation="prelu", normalization="rms_norm"))
    assert not output(model, run).eq(0).all()
    twin = copy.deepcopy(model)
    for parameter in twin.parameters():
        nn.init.zeros_(parameter)
    names = zip(run.__code__.co_freevars, run.__closure__, strict=True)
    cells = tuple(CellType(twin if name == "model" else cell.cell_contents) for name, cell in names)
    assert output(twin, FunctionType(run.__code__, run.__globals__, closure=cells)).eq(0).all()


@pytest.mark.parametrize("make", zoo.parametrized([zoo.dit, zoo.unet2d]))
def test_gradient_checkpointing_has_the_same_gradients(make: Any) -> None:
    model, run = zoo.make(make)
    operate(model, run, parts(activation="tanh", normalization="layer_norm"))
    model.train()

    def gradients() -> Tensor:
        model.zero_grad()
        torch.manual_seed(0)
        run().square().mean().backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    whole = gradients()
    model.enable_gradient_checkpointing()
    assert torch.equal(gradients(), whole)


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block, self.out = zoo.HandBlock(8, 8, "function"), nn.Linear(8, 8)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h = functional.silu(checkpoint(self.block, x, t, use_reentrant=False))
        return self.out(h.mean((2, 3)))


def test_functions_are_led_where_a_block_is_run_again_for_its_gradient() -> None:
    torch.manual_seed(0)
    model, x, t = Checkpointed(), torch.randn(2, 8, 4, 4), torch.randn(2, 32)
    operate(model, lambda: model(x, t), parts(activation="prelu"))
    model(x, t).square().mean().backward()
    again = copy.deepcopy(model)
    again.zero_grad()
    h = again.block(x, t)
    again.out(again.replaced_calls["silu_0"](h).mean((2, 3))).square().mean().backward()
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert one.grad is not None and torch.equal(one.grad, other.grad)


def test_it_compiles_in_one_graph() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.inner = nn.LayerNorm(4), Twice()

        def forward(self, x: Tensor) -> Tensor:
            return functional.gelu(self.inner(self.norm(x)))

    model, x = Net(), torch.randn(2, 3, 4)
    operate(model, lambda: model(x), parts(activation="tanh", normalization="rms_norm"))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        assert torch.allclose(compiled(x), model(x), atol=1e-6)


def test_what_is_trained_is_what_is_evaluated() -> None:
    """nn.TransformerEncoderLayer in evaluation takes a fused path that would pass by what was put in."""
    model, run = zoo.make(zoo.encoder)
    torch.backends.mha.set_fastpath_enabled(True)
    operate(model, run, parts(activation="relu", normalization="rms_norm"))
    model.train()
    with torch.no_grad():
        trained = run()
    assert torch.equal(output(model, run), trained)


class Twice(nn.Module):
    """One activation, called three times on other numbers of channels; the whole is run twice in a forward."""

    def __init__(self) -> None:
        super().__init__()
        self.act, self.wide, self.back = nn.SiLU(), nn.Linear(4, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.back(self.act(self.wide(self.act(x)))))


def test_each_call_has_a_module_of_its_own_however_often_its_owner_runs() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Twice()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(self.inner(x))

    model, x = Net(), torch.randn(2, 4)
    done = operate(model, lambda: model(x), parts(activation="apl"))
    assert len(done.put) == 6 and [p.numel() for p in model.parameters() if p.ndim == 1][:6] == [8, 8, 16, 16, 8, 8]
    model(x).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_one_instance_that_many_hold_becomes_one_for_each() -> None:
    act = nn.ReLU()
    model = nn.Sequential(nn.Linear(3, 4), act, nn.Linear(4, 5), act, nn.Sequential(nn.Linear(5, 6), act))
    x = torch.randn(2, 3)
    done = operate(model, lambda: model(x), parts(activation="apl"))
    assert len(done.put) == 3 and sorted(site.shape for site in done.put) == [(2, 4), (2, 5), (2, 6)]
    assert operators(model, lambda: model(x))["relu"] == 9, "three of apl in each, and no other"
    twin = copy.deepcopy(model)
    assert torch.equal(twin(x), model(x))


def test_an_alias_is_replaced_under_each_of_its_names() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(4)
            self.again = self.norm
            self.linear = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.again(self.linear(self.norm(x)))

    model, x = Net(), torch.randn(2, 3, 4)
    operate(model, lambda: model(x), parts(normalization="rms_norm"))
    assert model.norm is model.again and "native_layer_norm" not in operators(model, lambda: model(x))


@pytest.mark.parametrize(
    ("norm", "shape", "axis"),
    [
        (nn.GroupNorm(2, 6), (2, 6, 5), 1),
        (nn.GroupNorm(2, 6), (2, 6, 5, 4), 1),
        (nn.LayerNorm(6), (2, 3, 5, 6), 3),
        (nn.LayerNorm(6), (4, 6), 1),
        (nn.BatchNorm1d(6), (4, 6, 5), 1),
        (zoo.ChannelNorm(6), (2, 6, 5, 6), 1),
        (nn.GroupNorm(2, 6), (2, 6, 3, 2, 2), 1),
    ],
)
def test_a_norm_meets_the_channels_where_they_are(norm: nn.Module, shape: tuple[int, ...], axis: int) -> None:
    """layer_norm over the channels of each position, by its formula, whatever the layout."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = norm

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(x)

    model, x = Net(), torch.randn(shape, generator=torch.Generator().manual_seed(0))
    operate(model, lambda: model(x), parts(normalization="layer_norm"))
    mean, variance = x.double().mean(axis, keepdim=True), x.double().var(axis, correction=0, keepdim=True)
    assert torch.allclose(model(x).double(), (x.double() - mean) / (variance + 1e-5).sqrt(), atol=1e-5)


@zoo.needs_libraries
@pytest.mark.parametrize(("make", "frozen"), [(zoo.dit, 5), (zoo.sd3, 8), (zoo.pixart, 5)])
def test_a_norm_that_a_modulation_follows_has_a_frozen_gain(make: Any, frozen: int) -> None:
    model, run = zoo.make(make)
    done = operate(model, run, parts(normalization="layer_norm"))
    held = [m for m in done.modules if not any(p.requires_grad for p in m.parameters())]
    assert len(held) == frozen
    assert all(set(m.state_dict()["module.norm.weight"].tolist()) == {1.0} for m in held)


def why(done: Operation) -> dict[str, str]:
    return {site.what: site.why for site in done.left}


class Gates(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.act, self.own = nn.Linear(4, 4), nn.Linear(4, 4), nn.SiLU(), zoo.HandSwish()
        self.gate, self.pool = nn.Sigmoid(), nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        h = self.own(self.act(self.a(x)) * self.gate(self.b(x)))
        return self.pool(h) * torch.sigmoid(x) + x * torch.sigmoid(1.7 * x)


def test_gates_stay_and_are_named() -> None:
    model, x = Gates(), torch.randn(2, 4)
    done = operate(model, lambda: model(x), parts(activation="relu"))
    assert {site.what for site in done.put} == {"SiLU", "HandSwish"}
    assert why(done) == {"Sigmoid": GATE, "Tanh": GATE, "F.sigmoid": GATE}
    assert all("test_surgery.py:" in site.line for site in done.left)


class LinearAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(4, 4) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        q, k = functional.relu(self.to_q(x)), functional.relu(self.to_k(x))
        return functional.gelu(q @ (k.transpose(1, 2) @ self.to_v(x)))


class Ramp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.relu(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g


class Hidden(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = LinearAttention()

    def forward(self, x: Tensor) -> Tensor:
        x = self.attention(x)
        return Ramp.apply(x) * torch.erf(x) + functional.silu(x)


def test_what_stands_in_attention_in_a_function_of_autograd_or_in_a_formula_stays() -> None:
    model, x = Hidden(), torch.randn(2, 3, 4)
    done = operate(model, lambda: model(x), parts(activation="prelu"))
    assert [site.what for site in done.put] == ["F.silu"]
    assert Counter(site.why for site in done.left)[ATTENTION] == 3
    assert why(done)["aten::erf"] == BY_HAND and "autograd.Function" in str([site.why for site in done.left])
    model(x).sum().backward()


def test_a_census_leaves_modes_buffers_and_the_generator_as_they_were() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5)).eval()
    model[1].train()
    before, generator = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    taken = census(model, lambda: model(torch.ones(2, 3, 4, 4)))
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    assert [module.training for module in model] == [False, True, False, False] and taken.drew
    assert torch.equal(torch.get_rng_state(), generator)


def test_the_page_has_this_table() -> None:
    page = (Path(__file__).parents[3] / "docs" / "your_model.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+)[^|]* \| (\d+) of (\d+) \| (\d+) of (\d+) \| (\d+) of (\d+) \|", page, re.MULTILINE)
    assert {name: tuple(zip(map(int, n[::2]), map(int, n[1::2]), strict=True)) for name, *n in rows} == TABLE
