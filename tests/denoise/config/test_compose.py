"""Composing a config: parts that follow and parts that are overridden, and what is refused."""

from functools import cache

import pytest
import torch

from denoise.activation import Swish
from denoise.config import catalog, compose
from denoise.errors import UserError
from denoise.training.train import prepare

TINY = {
    "unet": ["model=unet", "model.width=8", "model.embedding_dim=16", "model.num_heads=2"],
    "dit": ["model=dit", "model.dim=16", "model.depth=1", "model.num_heads=2", "model.embedding_dim=16"],
}
PARTS = [place for place in compose.compose().choices if "@parts." in place]


def backbone(model: str, *overrides: str) -> torch.nn.Module:
    cfg = compose.compose([*TINY[model], "trainer.accelerator=cpu", "zero_output=false", *overrides]).cfg
    return prepare(cfg).denoiser.backbone


def owners(model: torch.nn.Module) -> dict[str, str]:
    """The part of each module by name: that of its nearest ancestor that names one."""
    found = {"": model.part_names[0]}
    for name, module in model.named_modules():
        if name:
            found[name] = getattr(module, "part_name", found[name.rpartition(".")[0]])
    return found


def described(model: torch.nn.Module) -> dict[str, tuple]:
    """What each module is, with its own weights and simple attributes."""
    result = {}
    for name, module in model.named_modules():
        plain = {k: v for k, v in vars(module).items() if isinstance(v, int | float | str)}
        own = {k: v.detach().flatten().tolist() for k, v in module.named_parameters(recurse=False)}
        result[name] = (type(module).__name__, plain, own)
    return result


@cache
def base(model: str) -> tuple[torch.nn.Module, dict[str, tuple]]:
    built = backbone(model)
    return built, described(built)


def other_option(place: str) -> str:
    """An option that the baseline does not have."""
    kind = place.partition("@")[0]
    chosen = compose.compose().choices[kind]
    return next(option for option in reversed(catalog.options(kind)) if option not in (chosen, "zeros"))


@pytest.mark.parametrize("model", TINY)
@pytest.mark.parametrize("place", PARTS)
def test_a_part_with_its_own_component_changes_alone(place, model):
    part = place.split(".")[1]
    override = f"{place}={other_option(place)}"
    if part not in base(model)[0].part_names:
        with pytest.raises(UserError, match="no such part"):
            backbone(model, override)
        return
    built, (before, was) = backbone(model, override), base(model)
    now, owner = described(built), owners(before) | owners(built)
    changed = {name for name in was.keys() | now.keys() if was.get(name) != now.get(name)}
    assert changed, f"{override} does nothing"
    assert {owner[name] for name in changed} == {part}


def test_a_transformer_with_relu_changes_only_transformer_blocks():
    built = backbone("unet", "activation@parts.transformer.activation=relu")
    kinds: dict[str, set] = {}
    for name, module in built.named_modules():
        if getattr(module, "kind", None) == "activation":
            kinds.setdefault(owners(built)[name], set()).add(type(module).__name__)
    assert kinds == {"transformer": {"ReLU"}, "residual": {"SiLU"}, "embedding": {"SiLU"}}


@pytest.mark.parametrize("model", TINY)
def test_parts_follow_the_main_choice_with_its_parameters(model):
    built = backbone(model, "activation=swish", "activation.beta=2")
    found = [module for module in built.modules() if getattr(module, "kind", None) == "activation"]
    assert len(found) >= 3 and all(isinstance(m, Swish) and m.beta.item() == 2 for m in found)


def test_a_parts_own_choice_has_its_own_parameters():
    own = ["activation@parts.embedding.activation=swish", "parts.embedding.activation.beta=3"]
    built = backbone("unet", "activation=swish", "activation.beta=2", *own)
    betas = {
        (owners(built)[name], module.beta.item()) for name, module in built.named_modules() if isinstance(module, Swish)
    }
    assert betas == {("residual", 2.0), ("transformer", 2.0), ("embedding", 3.0)}


def test_placement_and_dropout_of_one_part():
    built = backbone("unet", "dropout=0.1", "parts.transformer.dropout=0", "parts.residual.placement=post")
    rates = {(owners(built)[name], m.p) for name, m in built.named_modules() if type(m).__name__ == "Dropout"}
    assert rates == {("residual", 0.1), ("transformer", 0)}
    for name, module in built.named_modules():
        if type(module).__name__ == "Norms":
            empty = (isinstance(module.inner, torch.nn.Identity), isinstance(module.outer, torch.nn.Identity))
            assert empty == ((True, False) if owners(built)[name] == "residual" else (False, True))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("activation=swihs", "did you mean 'swish'"),
        ("activaton=swish", "did you mean 'activation'"),
        ("activation.beta=2", "silu has no such parameter"),
        ("optimizer.lr=fast", "must be a number"),
        ("optimizer.lr=7", "optimizer.space.lr.high=7"),
        ("trainer.max_steps=1.5", "must be a whole number"),
        ("trainer.max_step=5", "trainer.max_steps"),
        ("trainer.channels_last=1", "true or false"),
        ("optimizer=adam,sgd", "the verb search"),
        ("activation@parts.transformer.activation=rellu", "did you mean 'relu'"),
        ("activation@parts.transfomer.activation=relu", "nothing takes"),
        ("initializer=xavier_normal initializer.gain=large", "legal: auto, torch, or a number"),
        ("~optimizer", "needs its optimizer"),
        ("+news=1", "nothing reads"),
        ("seed", "not an override"),
        ("parts.transformer.placement=pre parts.transformer.activation.beta=1", "parts.transformer"),
    ],
)
def test_what_is_wrong_is_refused_in_one_line_that_says_the_fix(override, said):
    with pytest.raises(UserError) as refusal:
        compose.compose(override.split())
    assert said in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "value", ["trainer.ema_decay=1", "trainer.val_samples=3", "trainer.precision=16", "placement=up"]
)
def test_what_cannot_be_trained_is_refused(value):
    with pytest.raises(UserError, match=value.split("=")[0].replace(".", r"\.")):
        prepare(compose.compose([*TINY["unet"], value] if "precision" not in value else [f"{value}-true"]).cfg)


def test_a_domain_can_be_left_on_purpose():
    cfg = compose.compose(["optimizer=sgd", "optimizer.space.lr.high=1000", "optimizer.lr=900"]).cfg
    assert cfg.optimizer.lr == 900


def test_composing_twice_gives_configs_that_share_nothing():
    one, other = compose.compose().cfg, compose.compose().cfg
    one.optimizer.lr = 0.5
    assert other.optimizer.lr != 0.5 and compose.compose().cfg.optimizer.lr != 0.5


EXPECTING = [
    (kind, option, path)
    for kind in catalog.KINDS
    for option in catalog.options(kind)
    for path in catalog.entry(kind, option).expects
]


@pytest.mark.parametrize(("kind", "option", "path"), EXPECTING)
def test_what_an_option_expects_is_said_below_it_and_not_above(kind, option, path):
    low = catalog.entry(kind, option).expects[path]["low"]
    above, below = (compose.compose([f"{kind}={option}", f"{path}={value}"]) for value in (low, low - 1))
    assert compose.notes(above) == []
    (note,) = compose.notes(below)
    assert f"{kind}={option}" in note and f"{path}={low}" in note and "\n" not in note
    default = compose.compose([f"{path}={low - 1}"])
    assert compose.notes(default) == []
    assert compose.notes(default, {kind: catalog.options(kind)}) == [note], "a search may choose it"


def test_a_parts_own_choice_is_noted_too_and_once():
    own = ["normalization@parts.transformer.normalization=batch_norm", "data.batch_size=4"]
    assert len(compose.notes(compose.compose(own))) == 1
    assert compose.notes(compose.compose([*own, "normalization=batch_norm"])) == compose.notes(compose.compose(own))
