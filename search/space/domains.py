"""Domains: how they are read, what is legal in them, and how a value that was drawn is typed."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from denoise.config.legal import check_value
from denoise.config.limits import FORM, as_choice, as_text, as_value, is_number
from denoise.errors import UserError, choose

MOST_STEPS = 1_000_000
KEYS = {"float": ("low", "high", "step", "log"), "int": ("low", "high", "step", "log"), "categorical": ("choices",)}


def flat(node: DictConfig, prefix: str = "") -> list[tuple[str, DictConfig]]:
    """The domains of a tree by their config path. Errors: UserError for what is none."""
    found: list[tuple[str, DictConfig]] = []
    for name, value in node.items():
        path = f"{prefix}{name!s}"
        if isinstance(value, DictConfig) and "type" not in value:
            found += flat(value, f"{path}.")
        elif isinstance(value, DictConfig):
            found.append((path, value))
        else:
            raise UserError(f"search.domains.{path}={as_text(value)}: not a domain; {FORM}")
    return found


def distribution(where: str, node: Mapping[str, Any] | DictConfig) -> BaseDistribution:
    """Read a domain such as {type: float, low: 0.1, high: 1.0, log: true}. Errors: UserError, naming `where`."""
    content: Any = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else dict(node)
    kind = content.get("type")
    if not isinstance(kind, str) or kind not in KEYS:
        raise UserError(f"{where}: there is no domain of type {kind}; {choose(str(kind), KEYS)}; {FORM}")
    for key in content:
        if key != "type" and key not in KEYS[kind]:
            raise UserError(f"{where}: a {kind} domain has no {key}; {choose(str(key), KEYS[kind])}")
    missing = [key for key in ("low", "high", "choices") if key in KEYS[kind] and key not in content]
    if missing:
        raise UserError(f"{where}: {' and '.join(missing)} missing; {FORM}")
    return _list(where, content["choices"]) if kind == "categorical" else _numbers(where, kind, content)


def _list(where: str, choices: Any) -> CategoricalDistribution:
    if not isinstance(choices, list) or not choices:
        raise UserError(f"{where}: choices={as_text(choices)} is no list of values; {FORM}")
    for choice in choices:
        if isinstance(choice, dict) or (isinstance(choice, float) and not is_number(choice)):
            raise UserError(
                f"{where}: {choice} in choices; words, finite numbers, true, false, null and lists are legal"
            )
    made = [as_choice(choice) for choice in choices]
    twice = [choice for at, choice in enumerate(made) if choice in made[:at]]
    if twice:
        raise UserError(f"{where}: {as_text(twice[0])} comes twice in choices; name each value once")
    return CategoricalDistribution(made)


def _numbers(where: str, kind: str, content: Mapping[str, Any]) -> BaseDistribution:
    step, log = content.get("step"), content.get("log")
    low, high = content["low"], content["high"]
    for name, value in (("low", low), ("high", high), ("step", 1 if step is None else step)):
        if not is_number(value) or abs(value) > 1e300:
            raise UserError(f"{where}: {name}={as_text(value)} is no finite number; {FORM}")
        if kind == "int" and value != int(value):
            whole = max(1, round(value)) if name == "step" else round(value)
            raise UserError(f"{where}: {name}={value} is no whole number; write {name}: {whole}, or type: float")
    if low > high:
        raise UserError(f"{where}: low={low} is above high={high}; write {{type: {kind}, low: {high}, high: {low}}}")
    if log not in (None, True, False):
        raise UserError(f"{where}: log={log}; true and false are legal")
    if log and low <= 0:
        raise UserError(
            f"{where}: low={low} with log: true; a logarithm needs low above 0; raise low or write log: false"
        )
    if log and step is not None and (kind, step) != ("int", 1):
        raise UserError(f"{where}: step={step} with log: true; leave one of the two out")
    if step is not None:
        _check_step(where, low, high, step)
    if kind == "int":
        return IntDistribution(int(low), int(high), log=bool(log), step=int(step or 1))
    return FloatDistribution(float(low), float(high), log=bool(log), step=None if step is None else float(step))


def _check_step(where: str, low: float, high: float, step: float) -> None:
    first, last, each = (Decimal(str(value)) for value in (low, high, step))
    if each <= 0:
        raise UserError(f"{where}: step={step}; a step is above 0")
    if (last - first) / each > MOST_STEPS:
        raise UserError(
            f"{where}: step={step} makes more than {MOST_STEPS} steps; leave step out, or write a larger one"
        )
    if (last - first) % each:
        below = first + (last - first) // each * each
        raise UserError(
            f"{where}: steps of {step} from low={low} miss high={high}; write high: {below} or {below + each}"
        )


def ends(domain: BaseDistribution) -> list[tuple[str, Any]]:
    """What is looked at of a domain before it is searched, each with its name: the choices, or low and high."""
    if isinstance(domain, CategoricalDistribution):
        return [("choices", as_value(choice) if _is_list(choice) else choice) for choice in domain.choices]
    return [(name, getattr(domain, name)) for name in ("low", "high")]


def _is_list(choice: Any) -> bool:
    return isinstance(choice, str) and choice.startswith("[")


def check(
    where: str, path: str, domain: BaseDistribution, default: Any, words: Sequence[str] = (), limits: Any = None
) -> None:
    """Refuse a domain with an end or a choice that the config cannot have at `path`. Errors: UserError."""
    for name, value in ends(domain):
        try:
            check_value(path, value, default, words, limits)
        except UserError as error:
            whole = isinstance(default, int) and isinstance(value, float) and not isinstance(default, bool)
            more = "; write type: int" if whole and isinstance(domain, FloatDistribution) else ""
            raise UserError(f"{where}: {name}: {error}{more}") from error


def inside(where: str, value: Any, domain: BaseDistribution) -> Any:
    """A config's value as the domain has it. Errors: UserError where it is outside."""
    made = as_choice(value)
    if isinstance(domain, CategoricalDistribution):
        for choice in domain.choices:
            if choice == made and isinstance(choice, bool) == isinstance(made, bool):
                return choice
        legal = as_text(domain.choices)
        raise UserError(f"{where}={as_text(value)}: the baseline's value is not among the choices {legal}; add it")
    number: Any = domain
    if is_number(value) and number.low <= value <= number.high and _on_step(value, number):
        return value
    step = f" in steps of {number.step}" if number.step not in (None, 1) else ""
    start = f", or start within with {where}={number.low}" if " " not in where else ""
    raise UserError(
        f"{where}={as_text(value)}: the baseline's value is outside the searched domain [{number.low}, {number.high}]"
        f"{step}; widen it{start}"
    )


def _on_step(value: float, domain: Any) -> bool:
    if domain.step is None:
        return True
    steps = (value - domain.low) / domain.step
    return abs(steps - round(steps)) < 1e-8
