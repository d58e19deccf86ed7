"""Whether what a search may make of its baseline can be built at all: tried at the ends of each free domain."""

from collections.abc import Mapping
from itertools import islice, product
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution, IntDistribution

from denoise.config.compose import Composed
from denoise.config.limits import as_text
from denoise.errors import UserError
from denoise.evaluation import reach
from denoise.training import train
from search.space.domains import ends
from search.trial import pretrained

OF_NETWORK = ("model", "parts", "placement", "dropout", "zero_output")
OF_TRAINING = ("trainer", "data")
LISTED = 8  # whole numbers are tried one by one where there are no more of them
MOST = 24  # networks that are built for a value that the baseline's shape cannot have


def check(composed: Composed, free: Mapping[str, BaseDistribution]) -> None:
    """Refuse a domain with a value that nothing can be built of. Errors: UserError, naming the value and why.

    A value of the shape may ask for another one beside it: it is refused where no corner of the other domains of the
    shape goes with it.
    """
    shape = {path: values(domain) for path, domain in free.items() if path.split(".")[0] == "model"}
    for path, domain in free.items():
        illegal: dict[str, str] = {}
        legal = []
        for value in values(domain):
            others = {other: each for other, each in shape.items() if other != path} if path in shape else {}
            if said := _wrong(composed.cfg, path, value, others):
                illegal[as_text(value)] = said
            else:
                legal.append(as_text(value))
        if illegal:
            value, said = next(iter(illegal.items()))
            fix = f"write choices: [{','.join(legal)}]" if len(legal) > 1 else "leave it out"
            raise UserError(f"search.domains.{path}: {value} cannot be trained ({said}); {fix}")


def values(domain: BaseDistribution) -> list[Any]:
    """The values of a domain that are tried: all of a short list, else its ends."""
    if isinstance(domain, IntDistribution) and not domain.log:
        listed = range(domain.low, domain.high + 1, domain.step)
        if len(listed) <= LISTED:
            return list(listed)
    return [value for _, value in ends(domain)]


def _wrong(cfg: DictConfig, path: str, value: Any, others: Mapping[str, list[Any]]) -> str:
    """Why nothing can be built with a value, beside the baseline or any corner of `others`; empty where it can."""
    if OmegaConf.select(cfg, path) == value:
        return ""
    said = _built(cfg, {path: value})
    if said and others:
        for each in islice(product(*others.values()), MOST):
            if not _built(cfg, {path: value, **dict(zip(others, each, strict=True))}):
                return ""
    return said


def _built(cfg: DictConfig, changes: Mapping[str, Any]) -> str:
    changed = cfg.copy()
    for path, value in changes.items():
        OmegaConf.update(changed, path, value, merge=False)
    heads = {path.split(".")[0] for path in changes}
    threads = torch.get_num_threads()
    try:
        if heads & set(OF_NETWORK):
            reach.look(OmegaConf.masked_copy(changed, reach.LOOKED_AT))
        elif heads & set(OF_TRAINING):
            train.prepare(pretrained.resolve(changed))
    except UserError as error:
        return str(error)
    finally:
        torch.set_num_threads(threads)
    return ""
