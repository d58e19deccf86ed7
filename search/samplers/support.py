"""Whether a sampler can draw from a space, and what the user should know of it."""

import math
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler, BruteForceSampler, GPSampler, NSGAIISampler, QMCSampler

from denoise.errors import UserError
from search.samplers.cmaes import CMAES
from search.space.search_space import Space

LISTS = (BruteForceSampler,)  # every value
NUMBERS = (CMAES,)  # no choices
SHARED = (CMAES, GPSampler, NSGAIISampler, QMCSampler)  # what all trials have


def check(sampler: BaseSampler, name: str, space: Space) -> str:
    """What to know of `sampler` on `space`, a line or nothing. Errors: UserError where it cannot draw from it."""
    common, others = shared(space), conditional(space)
    varied = {parameter: domain for parameter, domain in common.items() if not domain.single()}
    rest = len(varied) + sum(not domain.single() for domain in others.values())
    if isinstance(sampler, LISTS):
        for parameter, domain in (common | others).items():
            if size(domain) is None:
                raise UserError(f"sampler={name}: {_cannot_list(parameter, domain, space)}, or take sampler=random")
    if isinstance(sampler, NUMBERS):
        varied = {name: domain for name, domain in varied.items() if not isinstance(domain, CategoricalDistribution)}
        if not varied:
            raise UserError(
                f"sampler={name}: models numbers that every trial draws, and this space has none; search one option a "
                "kind, such as search.kinds.optimizer=[adamw], or take sampler=tpe"
            )
    rest -= len(varied)
    if isinstance(sampler, SHARED) and rest:
        return (
            f"note: sampler={name} models {len(varied)} parameters that all trials have and draws the other {rest} at "
            "random; sampler=tpe models those of an option too"
        )
    return ""


def most(sampler: BaseSampler, space: Space) -> int | None:
    """How many trials a sampler has for a space; None where it has ever more."""
    return points(space) if isinstance(sampler, LISTS) else None


def points(space: Space) -> int | None:
    """How many points a space has; None where it cannot be listed."""
    found = 1
    for kind, options in space.options.items():
        sizes = [_product(space.domains[kind][option]) for option in options]
        if any(each is None for each in sizes):
            return None
        found *= sum(each or 0 for each in sizes)
    free = _product(space.free)
    return None if free is None else found * free


def shared(space: Space) -> dict[str, BaseDistribution]:
    """The parameters that every trial draws: the choices, the domains of a kind's only option, the free ones."""
    found: dict[str, BaseDistribution] = {kind: CategoricalDistribution(names) for kind, names in space.options.items()}
    found |= {name: domain for kind, name, domain in _of_options(space) if len(space.options[kind]) == 1}
    return found | space.free


def conditional(space: Space) -> dict[str, BaseDistribution]:
    """The parameters that only the trials with their option draw."""
    return {name: domain for kind, name, domain in _of_options(space) if len(space.options[kind]) > 1}


def size(domain: BaseDistribution) -> int | None:
    """How many values a domain has; None where they cannot be listed."""
    if domain.single():
        return 1
    if isinstance(domain, CategoricalDistribution):
        return len(domain.choices)
    if isinstance(domain, FloatDistribution) and domain.step is None:
        return None
    number: Any = domain
    return math.floor((number.high - number.low) / number.step + 1e-9) + 1


def _of_options(space: Space) -> list[tuple[str, str, BaseDistribution]]:
    return [
        (kind, f"{kind}.{option}.{parameter}", domain)
        for kind, options in space.options.items()
        for option in options
        for parameter, domain in space.domains[kind][option].items()
    ]


def _product(domains: dict[str, BaseDistribution]) -> int | None:
    sizes = [size(domain) for domain in domains.values()]
    return None if any(each is None for each in sizes) else math.prod(each or 0 for each in sizes)


def _cannot_list(name: str, domain: Any, space: Space) -> str:
    between = f"{name} is any number from {domain.low:g} to {domain.high:g}, which cannot be listed"
    if name in space.free:
        return f"{between}; give search.domains.{name} a step"
    kind, option, parameter = name.split(".", 2)
    if len(space.options[kind]) > 1:
        return f"{between}; leave {option} out of search.kinds.{kind}"
    return f"{between}; fix it with {kind}.space.{parameter}.low=V {kind}.space.{parameter}.high=V"
