"""What of a search reaches its network: counted, left out where nothing does, refused where it is asked about."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn

from denoise.config import catalog, compose
from denoise.data import images
from denoise.errors import UserError
from denoise.evaluation import reach
from denoise.training import train
from denoise.training.build import build_denoiser
from search.__main__ import main
from search.study import spec
from search.study.spec import Search
from tests.search.study.test_questions import latest

pytestmark = pytest.mark.filterwarnings("ignore")
ALONE = ["trainer.num_threads=1", "trainer.val_samples=16", "trainer.gap_samples=0", "data.batch_size=8"]
QUICK = [*ALONE, "trainer.max_steps=4", "trainer.val_every=2", "solver.steps=2", "solver.images=4", "pruner=none"]
SEARCHED = [kind for kind in catalog.KINDS if kind != "denoiser"]  # where no one says what is
NETWORKS = '''
import torch
from torch import nn


class Plain(nn.Module):
    """Takes nothing of its parts."""

    part_names = ("residual",)

    def __init__(self, image_size, channels, num_classes, parts, width=4, unused=1, takes="nothing"):
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.noise = nn.Linear(1, width)
        self.act = self.component(parts, width)
        self.last = nn.Conv2d(width, channels, 3, padding=1)

    def component(self, parts, width):
        return nn.SiLU()

    def forward(self, x, c_noise, labels=None):
        return self.last(self.act(self.first(x) + self.noise(c_noise[:, None])[:, :, None, None]))


class Activated(Plain):
    def component(self, parts, width):
        return parts.residual.activation(width)


class Late(Plain):
    """Makes its activation at each pass, and reads its dropout there."""

    def component(self, parts, width):
        self.parts = parts
        return lambda x: nn.functional.dropout(parts.residual.activation()(x), self.parts.residual.dropout)


class Bare(Plain):
    """Has no layer of those that an initializer sets."""

    def __init__(self, image_size, channels, *args, **more):
        super().__init__(image_size, channels, *args, **more)
        width = more["width"]
        self.first, self.last = nn.ConvTranspose2d(channels, width, 1), nn.ConvTranspose2d(width, channels, 1)
        self.noise = nn.ModuleList([nn.Bilinear(1, 1, width)])

    def forward(self, x, c_noise, labels=None):
        noise = self.noise[0](c_noise[:, None], c_noise[:, None])
        return self.last(self.act(self.first(x) + noise[:, :, None, None]))
'''
MODEL = "# own\n# own\n_target_: own_networks.Plain\nwidth: 4\nunused: 1\nclass_conditional: false\n"
NUMBER = "{type:int,low:1,high:3}"
EITHER = "{type:categorical,choices:[true,false]}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("own")
    (home / "own_networks.py").write_text(NETWORKS)
    (home / "conf" / "model").mkdir(parents=True)
    (home / "conf" / "model" / "own.yaml").write_text(MODEL)
    return home


@pytest.fixture
def planned(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches are planned, and nothing is made ready to be trained."""
    catalog.add_folder(folder)
    monkeypatch.setattr(train, "prepare", lambda cfg: None)
    monkeypatch.setattr(train, "counted", lambda *given: {})


def asked(name: str, *overrides: str) -> Search:
    return planned_of("model=own", f"model._target_=own_networks.{name}", *overrides)


def planned_of(*overrides: str) -> Search:
    starts = [] if any(text.startswith("search.enqueue=") for text in overrides) else ["search.enqueue=[]"]
    return spec.prepare([*ALONE, *starts, *overrides])


def said(search: Search) -> str:
    return "\n".join(search.notes)


# what is counted


@pytest.mark.parametrize("model", ["unet", "dit"])
@pytest.mark.parametrize("more", [[], ["zero_output=false", "feed_forward=swiglu"], ["placement=sandwich"]])
def test_the_places_are_those_of_the_network_that_is_trained(model: str, more: list[str]) -> None:
    """Counted anew in the built and initialized network: modules by their mark, layers by a start that is not zero."""
    cfg = compose.compose([f"model={model}", *more]).cfg
    backbone = build_denoiser(cfg, images.load(cfg.data)).backbone
    found: Counter[tuple[str, str]] = Counter()

    def visit(module: nn.Module, part: str) -> None:
        part = getattr(module, "part_name", part)
        if getattr(module, "kind", None) in reach.TAKEN:
            found[module.kind, part] += 1
        if isinstance(module, nn.Linear | nn.Conv2d) and module.weight.abs().max() > 0:
            found.update({(kind, part): 1 for kind in reach.GIVEN})
        for child in module.children():
            visit(child, part)

    visit(backbone, backbone.part_names[0])
    found.update({(kind, ""): len(list(backbone.parameters())) for kind in reach.WHOLE})
    assert reach.look(cfg).places == found


def test_the_look_changes_no_random_numbers_and_is_the_same_twice() -> None:
    cfg = compose.compose(["model.attention_levels=[]"]).cfg
    before = torch.random.get_rng_state(), torch.get_num_threads()
    one, other = reach.look(cfg), reach.look(cfg)
    assert torch.equal(torch.random.get_rng_state(), before[0]) and torch.get_num_threads() == before[1]
    assert one.places == other.places and not reach.differ(one, other)


@pytest.mark.parametrize(
    ("change", "acts"),
    [
        ("dropout=0.2", True),
        ("placement=post", True),
        ("zero_output=false", True),
        ("model.embedding_dim=64", True),
        ("parts.transformer.dropout=0.2", False),
        ("model.feed_forward_ratio=3.0", False),
        ("model.num_heads=2", False),
        ("feed_forward=swiglu", False),
        ("seed=1", False),
    ],
)
def test_networks_differ_where_a_choice_acts(change: str, acts: bool) -> None:
    """In a U-Net without transformer blocks. What the seed draws is the initializer's, which has not come yet."""
    base = ["model.attention_levels=[]", "model.width=8"]
    looks = [reach.look(compose.compose([*base, *more]).cfg) for more in ([], [change])]
    if change != "seed=1":
        assert reach.differ(*looks) == acts
    else:
        assert reach.differ(*looks), "two seeds' first values"


# what is left out


@pytest.mark.usefixtures("planned")
def test_our_networks_take_every_kind() -> None:
    for model in ("unet", "dit"):
        found = planned_of(f"model={model}")
        assert list(found.places) == SEARCHED and min(found.places.values()) > 0 and found.notes == []


@pytest.mark.usefixtures("planned")
@pytest.mark.parametrize(
    ("overrides", "idle"),
    [
        (["model.attention_levels=[]"], ["feed_forward"]),
        (["search=shape", "model.attention_levels=[]", "search.kinds.feed_forward=all"], []),
        (["search=parts", "model=dit"], [f"{k}@parts.residual.{k}" for k in ("activation", "normalization")]),
        (["search=parts", "feed_forward=swiglu"], ["activation@parts.transformer.activation"]),
        (["search=parts", "feed_forward=swiglu", "search.kinds.feed_forward=[mlp,swiglu]"], []),
        (["normalization=none", "+search.domains.placement={type:categorical,choices:[pre,post]}"], []),
        (
            [
                *("normalization=none", "search.kinds.normalization=fixed"),
                "+search.domains.placement={type:categorical,choices:[pre,post]}",
            ],
            ["placement"],
        ),
    ],
)
def test_what_acts_in_no_network_of_the_search_is_left_out(overrides: list[str], idle: list[str]) -> None:
    found = planned_of(*overrides)
    notes = [note for note in found.notes if "so it is not searched" in note]
    assert [note.removeprefix("note: ").split(": ")[0] for note in notes] == idle
    assert not {*found.space.options, *found.space.free} & set(idle)


@pytest.mark.usefixtures("planned")
@pytest.mark.parametrize(
    ("name", "acting"),
    [
        ("Plain", {"weight_normalization": 3, "initializer": 3, "optimizer": 6, "lr_schedule": 6}),
        ("Activated", {"activation": 1, "weight_normalization": 3, "initializer": 3, "optimizer": 6, "lr_schedule": 6}),
        ("Bare", {"optimizer": 6, "lr_schedule": 6}),
    ],
)
def test_of_a_network_of_ones_own_only_what_it_takes_is_searched(name: str, acting: dict[str, int]) -> None:
    found = asked(name)
    assert found.places == acting and list(found.space.options) == list(acting)
    gone = [kind for kind in SEARCHED if kind not in acting]
    line = "note: {}: this network takes none from the config (0 places), so it is not searched"
    assert found.notes == [line.format(kind) for kind in gone]


@pytest.mark.usefixtures("planned")
def test_what_is_taken_only_at_a_pass_is_not_lost() -> None:
    found = asked("Late", "+search.domains.dropout={type:float,low:0.0,high:0.3}")
    assert found.places["activation"] == 1 and "dropout" in found.space.free
    assert "normalization" not in found.space.options


@pytest.mark.usefixtures("planned")
def test_values_that_change_nothing_are_left_out() -> None:
    domains = {"dropout": "{type:float,low:0.0,high:0.3}", "zero_output": EITHER, "model.unused": NUMBER}
    domains |= {"model.width": "{type:int,low:4,high:8}", "placement": "{type:categorical,choices:[pre,post]}"}
    domains |= {"trainer.ema_decay": "{type:float,low:0.9,high:0.999}"}
    found = asked("Plain", *(f"+search.domains.{path}={domain}" for path, domain in domains.items()))
    assert list(found.space.free) == ["model.width", "trainer.ema_decay"]
    for path in ("dropout", "zero_output", "model.unused", "placement"):
        assert f"note: {path}: changes nothing in this network, so it is not searched" in found.notes


@pytest.mark.usefixtures("planned")
def test_of_a_known_start_what_cannot_act_is_named() -> None:
    starts = "[['activation=gelu','optimizer=lion'],['normalization=none'],['optimizer=sgd']]"
    found = asked("Plain", f"search.enqueue={starts}")
    assert [note for note in found.notes if "known start" in note] == [
        "note: known start activation=gelu optimizer=lion: activation=gelu cannot act in this network, "
        "so it is tried without",
        "note: known start normalization=none: normalization=none cannot act in this network, so it is not tried",
    ]
    assert [point["optimizer"] for point in found.mode.points] == ["adamw", "lion", "sgd"]


@pytest.mark.usefixtures("planned")
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["search=ablation"],
            r"^search.scientific: activation: this network takes none from the config \(0 places\); what acts: "
            r"weight_normalization \(3 places\), initializer \(3 places\), optimizer \(6 places\), lr_schedule",
        ),
        (
            ["search=ablation", "search.scientific=[zero_output]", f"+search.domains.zero_output={EITHER}"],
            "^search.scientific: zero_output: changes nothing in this network; what acts: weight_normalization",
        ),
        (
            [f"search.kinds.{kind}=fixed" for kind in catalog.KINDS if kind not in ("activation", "normalization")],
            "^nothing is left to search: activation, normalization reach no place of this network; what acts: weight",
        ),
    ],
)
def test_what_is_asked_and_does_not_act_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        asked("Plain", *overrides)


@pytest.mark.usefixtures("planned")
def test_a_nuisance_that_does_not_act_is_left_out() -> None:
    nuisance = "search.nuisance=[activation.*,optimizer.lr]"
    found = asked("Plain", "search=ablation", "search.scientific=[initializer]", nuisance, "sampler=random")
    assert list(found.space.options) == ["initializer", "optimizer"] and "note: activation: " in said(found)


def test_a_person_sees_what_is_not_searched(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["search", "--config-dir", str(folder), f"store={tmp_path / 'runs'}", *QUICK, "model=own"]
    asked = [
        "search.n_trials=2",
        "search.confirm.finalists=0",
        "activation=gelu",
        "search.enqueue=[['activation=relu']]",
    ]
    assert main([*given, *asked]) == 0
    out = " ".join("".join(capsys.readouterr()).split())
    for kind in ("activation", "normalization", "feed_forward"):
        assert f"{kind}: this network takes none from the config (0 places), so it is not searched" in out
    assert "known start activation=relu: activation=relu cannot act in this network, so it is not tried" in out
    found = latest(tmp_path / "runs")
    assert all(record.overrides.count("activation=gelu") == 1 for record in found.records), "what was typed stays"
    assert not any(text.startswith("normalization") for record in found.records for text in record.overrides)
    assert '"initializer": 3' in found.parent.data.tags["places"]
    assert main([*given, "search=ablation"]) == 2
    assert capsys.readouterr().err.startswith("search.scientific: activation: this network takes none")
