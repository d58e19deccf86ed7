"""From a config to everything that a training needs, built and checked, with nothing written."""

from typing import Any, Protocol

import torch
from omegaconf import DictConfig

from denoise.config import catalog
from denoise.config.legal import KEPT, brings_its_own, is_lightning, named_parts
from denoise.config.overrides import RANKS
from denoise.data import images
from denoise.data.images import Images
from denoise.denoiser.preconditioned import Denoiser
from denoise.errors import UserError, choose
from denoise.foreign.as_built import is_as_built
from denoise.foreign.host import Host, host
from denoise.initializer.stage import Scope, Stage
from denoise.kernels.put_in import put_in
from denoise.model.block import Part, Parts
from denoise.model.initialize import finish, initialize
from denoise.process_state import steady
from denoise.randomness import seeded
from denoise.training.checks import check_classes, check_inplace, check_own, check_parts, check_trainer, check_unused
from denoise.training.measured import with_measured
from denoise.training.module import DenoiseModule
from denoise.training.trainable import Trainable

OF_TRAINING = ("class_conditional", "class_dropout")  # keys of a model that its backbone does not take


def module_of(cfg: DictConfig, denoiser: Denoiser, data: Images, **more: Any) -> DenoiseModule:
    """Put a denoiser into the module that trains or evaluates it as the config says; `more`: what a training has."""
    return DenoiseModule(
        denoiser,
        catalog.call(with_measured(cfg.ruler, data), kind="ruler"),
        data,
        make_optimizer=catalog.factory("optimizer", cfg.optimizer),
        make_lr_schedule=catalog.factory("lr_schedule", cfg.lr_schedule),
        elementwise=catalog.elementwise(cfg.optimizer),
        seed=cfg.seed,
        batch_size=cfg.data.batch_size,
        max_steps=cfg.trainer.max_steps,
        accumulate=cfg.trainer.get("accumulate", 1),
        val_samples=cfg.trainer.val_samples,
        test_samples=cfg.trainer.test_samples,
        class_conditional=cfg.model.class_conditional,
        class_dropout=cfg.model.get("class_dropout", 0.0),
        memory_format=_memory_format(cfg),
        **more,
    )


class Recipe(Protocol):
    """How a config's training is made, and what is known of its data."""

    def prepare(self, cfg: DictConfig) -> Trainable:
        """Build all that a training needs, writing nothing. Errors: UserError."""

    def host(self, cfg: DictConfig) -> Host:
        """The config's model where it brings its own components, met and not changed. Errors: UserError."""

    def data_sha256(self, cfg: DictConfig) -> str:
        """What names the content of the data."""

    def notes(self, cfg: DictConfig) -> list[str]:
        """What the user should know of the data, a line each."""

    def test_images(self, cfg: DictConfig) -> int:
        """How many images, or other examples, are held back for the end."""


def recipe(cfg: DictConfig) -> Recipe:
    """A denoiser's, or that of a LightningModule of the user's own: it says what is measured of it."""
    if not is_lightning(cfg.model):
        return Denoising()
    from denoise.training.hosted.build import Hosting  # where it is asked for: it reads what else than ours can be

    return Hosting()


def prepare(cfg: DictConfig) -> Trainable:
    """Build all that a training needs, writing nothing. Errors: UserError for a config that cannot be trained."""
    check_trainer(cfg.trainer)
    if cfg.trainer.num_threads is not None:
        torch.set_num_threads(cfg.trainer.num_threads)
    module = recipe(cfg).prepare(cfg)
    optimizer = module.configure_optimizers()["optimizer"]  # its refusal comes now, before anything is written
    accumulate = cfg.trainer.get("accumulate", 1)
    if accumulate > 1 and hasattr(optimizer, "curvature"):
        raise UserError(
            f"trainer.accumulate={accumulate}: this optimizer looks at a batch as a whole; take "
            "trainer.accumulate=1, or another optimizer"
        )
    return module


class Denoising:
    """The training of a denoiser."""

    def prepare(self, cfg: DictConfig) -> DenoiseModule:
        """Errors: UserError."""
        check_own(cfg)
        check_classes(cfg)
        check_parts(cfg)
        data = images.load(cfg.data)
        if cfg.trainer.test_samples and not len(data.images["test"]):
            raise UserError(
                f"trainer.test_samples={cfg.trainer.test_samples}: the data have no test images; take "
                "trainer.test_samples=0, and in a search search.confirm.finalists=0"
            )
        denoiser, stages = _build(cfg, data)
        module = module_of(cfg, denoiser, data, gap_samples=cfg.trainer.gap_samples, compiled=cfg.trainer.compile)
        if stages:
            with steady():
                module.start = finish(stages, module.denoiser, module.draw(0), cfg.seed)
        return module

    def host(self, cfg: DictConfig) -> Host:
        """Errors: UserError."""
        found: Host = build_backbone(cfg, images.load(cfg.data), None)
        return found

    def data_sha256(self, cfg: DictConfig) -> str:
        """Of every image, label and condition."""
        return images.content_hash(cfg.data)

    def notes(self, cfg: DictConfig) -> list[str]:
        """What was read, what becomes of its conditions, and how far its pixels spread."""
        data = images.load(cfg.data)
        notes = data.notes + conditions(cfg, data)
        if data.sigma_data is None:
            return notes
        said = f"data: standard deviation of the training images {data.sigma_data:g}"
        taken = with_measured(cfg.data, data)["sigma_data"]
        return [*notes, f"{said}; sigma_data {taken:g}"]

    def test_images(self, cfg: DictConfig) -> int:
        """Those of the test split."""
        return len(images.load(cfg.data).images["test"])


def conditions(cfg: DictConfig, data: Images) -> list[str]:
    """What becomes of the conditions of the data, a line each: which argument takes one, and which none does."""
    who, taken = str(cfg.model["_target_"]).rpartition(".")[2], dict[str, str]()
    if data.conditions and brings_its_own(cfg.model):
        with seeded(cfg.seed, "others/conditions"):
            host: Host = build_backbone(cfg, data, None)
        who, taken = type(host.net).__name__, dict(host.arguments.told)
    given = ", ".join(name if name == argument else f"{name} as {argument}" for argument, name in taken.items())
    left = ", ".join(name for name in data.conditions if name not in taken.values())
    said = f"data: {given} given to {who}; samples have those of the first validation images"
    return [said] * bool(given) + [f"data: {left}: no argument of {who} takes it"] * bool(left)


def build_denoiser(cfg: DictConfig, data: Images) -> Denoiser:
    """Build the backbone of the chosen components, initialized from the seed, in its preconditioning.

    The second stage of an initializer that has one (lsuv, pretrained) is left out: it is a training's.
    """
    return _build(cfg, data)[0]


def _build(cfg: DictConfig, data: Images) -> tuple[Denoiser, dict[Stage, Scope]]:
    parts = build_parts(cfg)
    with seeded(cfg.seed, "others/build"):  # what is not ours may draw while it is made
        backbone = build_backbone(cfg, data, parts)
    if isinstance(backbone, Host):
        stages = operated(cfg, backbone, parts)
    else:
        put_in(backbone)
        stages = initialize(backbone, parts, cfg.seed)
    denoiser: Denoiser = catalog.call(with_measured(cfg.denoiser, data), backbone, kind="denoiser")
    return denoiser, stages


def as_read(cfg: DictConfig, data: Images) -> Denoiser:
    """The backbone as it is made or read, nothing put in and no weight set, in its preconditioning."""
    with seeded(cfg.seed, "others/build"):
        denoiser: Denoiser = catalog.call(
            with_measured(cfg.denoiser, data), build_backbone(cfg, data, None), kind="denoiser"
        )
    return denoiser


def operated(cfg: DictConfig, host: Host, parts: Parts) -> dict[Stage, Scope]:
    """Put a config's components into a network that is not ours, and set its weights. Errors: UserError."""
    check_unused(cfg)
    with seeded(cfg.seed, "others/surgery"):
        for module in host.operate(parts).modules:
            put_in(module)
    return host.initialize(parts, cfg.seed)


def build_backbone(cfg: DictConfig, data: Images, parts: Parts | None) -> Any:
    """Build the config's backbone of these parts, its weights as torch starts them. Errors: UserError.

    A network that brings its own components is hosted, and left as it is.
    """
    num_classes = data.num_classes if cfg.model.class_conditional else 0
    if brings_its_own(cfg.model):
        told = data.told(data.conditions, "train", torch.arange(2) % len(data.images["train"]))
        return of_parts(cfg, host(cfg.model, data.shape, num_classes, told))
    for kind in KEPT:
        own = {f"parts.{name}.{kind}": part.get(kind) for name, part in cfg.parts.items()}
        if place := next((path for path, node in ({kind: cfg[kind]} | own).items() if is_as_built(node)), None):
            raise UserError(
                f"{place}=as_built: keeps what a model of your own has (model=mine, model=diffusers), and this "
                f"one takes its {kind} from here; legal: {', '.join(catalog.options(kind))}"
            )
    model = {name: value for name, value in cfg.model.items() if name not in OF_TRAINING}
    backbone = catalog.call(
        model, kind="model", image_size=data.shape[1:], channels=data.channels, num_classes=num_classes, parts=parts
    )
    return of_parts(cfg, backbone)


def of_parts(cfg: DictConfig, backbone: Any) -> Any:
    """Refuse choices for a part that a backbone does not have."""
    for name in cfg.parts:
        if any(value is not None for value in cfg.parts[name].values()) and name not in backbone.part_names:
            raise UserError(
                f"parts.{name}: a {type(backbone).__name__} has no such part; {choose(str(name), backbone.part_names)}"
            )
    return backbone


def build_parts(cfg: DictConfig) -> Parts:
    """Give each part its components: its own where it has one, else the config's."""

    def part(name: str) -> Part:
        own = cfg.parts.get(name) or {}
        kinds = ("activation", "normalization", "weight_normalization", "initializer", "feed_forward")
        nodes = {kind: own.get(kind) or cfg[kind] for kind in kinds}
        for kind, node in nodes.items():
            check_inplace(node, f"parts.{name}.{kind}" if own.get(kind) else kind)
        chosen: Any = {k: None if is_as_built(node) else catalog.factory(k, node) for k, node in nodes.items()}
        placement, dropout = own.get("placement"), own.get("dropout")
        return Part(
            **chosen,
            placement=cfg.placement if placement is None else placement,
            dropout=cfg.dropout if dropout is None else dropout,
        )

    named = {name: part(name) for name in named_parts(cfg.model)}
    residual, transformer, embedding = map(part, RANKS)
    return Parts(residual, transformer, embedding, zero_output=cfg.zero_output, named=named)


def _memory_format(cfg: DictConfig) -> torch.memory_format:
    """Contiguous for a network that is not ours: it may take views that channels_last does not have."""
    last = cfg.trainer.channels_last and not brings_its_own(cfg.model)
    return torch.channels_last if last else torch.contiguous_format
