"""The loaders of a LightningModule as its config names them, and which of their examples are for what."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.utilities.model_helpers import is_overridden
from omegaconf import DictConfig, OmegaConf

from denoise.config import catalog
from denoise.errors import UserError
from denoise.fault import line
from denoise.process_state import steady
from denoise.randomness import seeded_all
from denoise.training.hosted.keyed import EVALUATION, KeyedLoader, digest, mixed

SPLITS = ("train", "validation", "test")
KEPT_ASIDE = 5  # one example in so many is held out of the training's where there is no validation loader
HASHED = 4  # batches of each split that name the data


@dataclass(frozen=True)
class Splits:
    """What a training reads.

    train: its loader; fixed: of each split a loader and the batches of its evaluations, none where it has no examples;
    notes: a line on each; hooks: the data module, where it moves batches itself.
    """

    train: KeyedLoader
    fixed: Mapping[str, tuple[KeyedLoader, list[list[int]]]]
    notes: list[str]
    hooks: LightningDataModule | None = None

    def __deepcopy__(self, memo: object) -> "Splits":
        return self

    def count(self, split: str) -> int:
        """How many examples there are for an evaluation."""
        return sum(map(len, self.fixed[split][1]))

    def cases(self, split: str, examples: int) -> list[int]:
        """The batches of an evaluation of at least so many examples: from the first on again where there are fewer."""
        loader, batches = self.fixed[split]
        return [case % len(batches) for case in range(-(-examples // loader.batch_size))]

    def batch(self, split: str, number: int) -> Any:
        """A batch of an evaluation: the same at each call, for each trial."""
        loader, batches = self.fixed[split]
        return loader.read(batches[number], EVALUATION, f"hosted/{split}", number)

    @cached_property
    def sha256(self) -> str:
        """sha256 of the first batches of each split, and of how many there are."""
        found: list[Any] = []
        for split, (loader, batches) in self.fixed.items():
            found += [split, len(loader.dataset), len(batches)]
            found += [digest(self.batch(split, number)) for number in range(min(HASHED, len(batches)))]
        return digest(found)


def built(model: Mapping[str, Any], seed: int) -> LightningModule:
    """The LightningModule that a model's config names, made with what it draws keyed. Errors: UserError."""
    name = str(model["_target_"])
    node = {"_target_": name, **(model.get("kwargs") or {})}
    with seeded_all(seed, "others/build"):
        net = _called(node, f"model {name}")
        if not isinstance(net, LightningModule):
            raise UserError(f"model {name}: is a {type(net).__name__}; model=lightning wants a LightningModule")
        try:
            with steady():
                net.prepare_data()
                net.configure_model()
                net.setup("fit")
        except Exception as error:  # whatever it says of itself
            raise UserError(f"model {name}: its setup fails: {line(error)}") from error
    return net


def read(cfg: DictConfig, net: LightningModule | None = None) -> Splits:
    """The examples of a config. net: the module whose own loaders they are, where it is made. Errors: UserError."""
    model: Any = OmegaConf.to_container(cfg.model, resolve=True)
    if model["data"] is not None:
        return _divided(str(model["data"]), cfg.data.batch_size)
    if net is not None:
        return divide(*_of(net, None), cfg.data.batch_size)
    return _own(json.dumps(model, sort_keys=True), cfg.data.batch_size)


@lru_cache(maxsize=4)
def _own(text: str, size: int | None) -> Splits:
    return divide(*_of(built(json.loads(text), EVALUATION), None), size)


@lru_cache(maxsize=8)
def _divided(name: str, size: int | None) -> Splits:
    return divide(*_given(name), size)


@lru_cache(maxsize=2)
def _given(name: str) -> tuple[list[Any], LightningDataModule | None]:
    with seeded_all(EVALUATION, "hosted/data"):
        return _of(_called({"_target_": name}, f"model.data={name}"), name)


def _called(node: Mapping[str, Any], where: str) -> Any:
    try:
        return catalog.call(node, kind="model", where=where)
    except UserError:
        raise
    except Exception as error:  # whatever the user's own code says
        raise UserError(f"{where}: {line(error)}") from error


def _of(found: Any, name: str | None) -> tuple[list[Any], LightningDataModule | None]:
    """The loaders of what holds some, a module, a data module, loaders themselves; and the data module."""
    try:
        with steady(), seeded_all(EVALUATION, "hosted/loaders"):
            return _loaders(found, name), found if isinstance(found, LightningDataModule) else None
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"model.data={name or 'null'}: its loaders cannot be made: {line(error)}") from error


def _loaders(found: Any, name: str | None) -> list[Any]:
    if isinstance(found, LightningDataModule):
        found.prepare_data()
        found.setup("fit")
    if isinstance(found, LightningDataModule | LightningModule):
        if not is_overridden("train_dataloader", found):
            raise UserError(
                f"model.data=null: {type(found).__name__} has no train_dataloader, so it needs a data module or a "
                "loader; give model.data=MODULE.NAME, a function or a class that returns one"
            )
        loaders = [found.train_dataloader()]
        loaders += [found.val_dataloader()] if is_overridden("val_dataloader", found) else []
        if len(loaders) > 1 and is_overridden("test_dataloader", found):
            found.setup("test")
            loaders.append(found.test_dataloader())
    else:
        loaders = list(found) if isinstance(found, list | tuple) else [found]
    if not 1 <= len(loaders) <= len(SPLITS):
        raise UserError(
            f"model.data={name}: returned {len(loaders)} things; legal: a train DataLoader, (train, validation), "
            "(train, validation, test), or a LightningDataModule"
        )
    return [each[0] if isinstance(each, list | tuple) and len(each) == 1 else each for each in loaders]


def divide(loaders: Sequence[Any], hooks: LightningDataModule | None = None, size: int | None = None) -> Splits:
    """Say which examples are for what.

    Without a validation loader a fifth of the training's are held out; without a test loader every second held-out
    example is kept aside for test/loss.
    """
    train = KeyedLoader(loaders[0], "train", size)
    notes = []
    if len(loaders) == 1:
        held = mixed(len(train.dataset))[: max(2, len(train.dataset) // KEPT_ASIDE)]
        train = KeyedLoader(loaders[0], "train", size, frozenset(held))
        fixed = {name: (train, train.even(held[at::2])) for at, name in enumerate(SPLITS[1:])}
        notes.append("data: no validation loader: held out of the training's examples")
    else:
        validation = KeyedLoader(loaders[1], "validation", size)
        if len(loaders) == 3:
            test = KeyedLoader(loaders[2], "test", size)
            fixed = {"validation": (validation, validation.fixed()), "test": (test, test.fixed())}
        elif validation.plain:
            examples = mixed(len(validation.dataset))
            fixed = {name: (validation, validation.even(examples[at::2])) for at, name in enumerate(SPLITS[1:])}
        else:
            batches = validation.fixed()
            fixed = {name: (validation, batches[at::2]) for at, name in enumerate(SPLITS[1:])}
    if len(loaders) < 3:
        notes.append("data: no test loader: every second held-out example is kept aside for test/loss")
    if not fixed["validation"][1]:
        raise UserError("model.data: no held-out example is left for val/loss; give a validation loader")
    found = Splits(train, {"train": (train, train.fixed()), **fixed}, notes, hooks)
    seen = sum(map(len, train.order(EVALUATION, 0)))
    kept = " and ".join(f"{found.count(name)} {name} in batches of {fixed[name][0].batch_size}" for name in SPLITS[1:])
    notes.insert(0, f"data: {seen} training examples in {train.count} batches of {train.batch_size}; {kept}")
    return found
