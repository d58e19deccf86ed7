"""Known starts: configs that are tried after the baseline and before what is drawn, each trained as it was typed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, OmegaConf

from denoise.config.compose import Composed, compose, next_compose
from denoise.config.legal import select
from denoise.config.limits import as_text
from denoise.config.overrides import Overrides, key
from denoise.errors import UserError
from denoise.training import train
from search.space import inert
from search.space.inert import Reach
from search.space.search_space import MEASURE, NOT_THE_TRIALS, Space, path_of
from search.trial import pretrained
from search.trial.config_hash import config_sha256

EQUAL = ("trainer.max_steps", "trainer.num_threads")  # what is compared has the same, unless it is searched


@dataclass(frozen=True)
class KnownStart:
    """A known start: its point in the space, which the sampler learns from, and the overrides that are in no domain."""

    point: dict[str, Any]
    further: list[str] = field(default_factory=list)


def collect(
    composed: Composed, space: Space, acting: Reach, overrides: Sequence[str]
) -> tuple[list[KnownStart], list[str], list[str]]:
    """The starts of a search, its baseline first; those that lie outside its space; a note for each that is no other.

    Errors: UserError for what is no config, and for one that cannot be compared with the others.
    """
    starts, outside, notes = [KnownStart(space.point(composed))], list[str](), list[str]()
    for given in composed.cfg.search.enqueue:
        _check_form(given)
        notes += filter(None, [inert.unheard(given, acting)])
        heard = inert.heard(given, acting)
        start = _read(composed, space, heard, overrides) if heard else None
        typed = " ".join(given)
        if start is None:
            outside += [typed] if heard else []
        elif start in starts:
            at = starts.index(start)
            notes.append(f"note: known start {typed}: is {f'the same as start {at}' if at else 'the baseline itself'}")
        else:
            starts.append(start)
    return starts, outside, notes


def _check_form(given: Any) -> None:
    if not OmegaConf.is_list(given) or not given or not all(isinstance(text, str) for text in given):
        raise UserError(
            f"search.enqueue: {given} is no list of overrides; "
            'write search.enqueue=[["optimizer=muon"],["activation=gelu","dropout=0.1"]]'
        )


def _read(composed: Composed, space: Space, given: Sequence[str], overrides: Sequence[str]) -> KnownStart | None:
    mine, places = Overrides(given), [key(text) for text in given]
    if twice := next((each for each in places if places.count(each) > 1), None):
        raise UserError(f"search.enqueue: {' '.join(given)}: {twice} stands twice; give each value once")
    others = {name for name, option in composed.choices.items() if mine.values.get(name, option) != option}
    kept = [text for text in overrides if key(text).split(".")[0] not in others]
    start = compose(mine.over(kept), "search")
    _check_comparable(given, start.cfg, composed.cfg, space)
    try:
        point = space.point(start)
    except UserError:
        return None
    further = [text for text in given if not _chosen(key(text), point, space)]
    if further:
        _check_trainable(given, start)
    if further and config_sha256(next_compose((*space.at(point), *further))) != config_sha256(start):
        raise UserError(
            f"search.enqueue: {' '.join(given)}: cannot be tried as it is typed; give it as values of its own"
        )
    return KnownStart(point, further)


def _check_trainable(given: Sequence[str], start: Composed) -> None:
    """Refuse what no training can begin with: a file that is not there, a batch larger than the data."""
    try:
        train.prepare(pretrained.resolve(start.cfg))
    except UserError as error:
        raise UserError(f"search.enqueue: {' '.join(given)}: {error}") from error


def _chosen(name: str, point: dict[str, Any], space: Space) -> bool:
    """Tell whether what a start's override sets is what its point says."""
    if name in space.options or name in space.free:
        return True
    return any(
        f"{path_of(at)}.{parameter}" == name for at in space.options for parameter in space.domains[at][point[at]]
    )


def _check_comparable(given: Sequence[str], start: DictConfig, baseline: DictConfig, space: Space) -> None:
    typed = f"search.enqueue: {' '.join(given)}"
    for text in given:
        head = key(text).split(".")[0]
        if head == "allow":
            raise UserError(f"{typed}: a start allows nothing; give {text} to the search itself")
        if head in NOT_THE_TRIALS:
            raise UserError(f"{typed}: no training depends on {head}; give {text} to the search itself")
    for path in (*MEASURE, *EQUAL):
        mine, theirs = select(start, path), select(baseline, path)
        if path == "data":
            mine, theirs = ({k: v for k, v in node.items() if k != "batch_size"} for node in (mine, theirs))
        if mine != theirs and path not in space.free:
            said = f"{path}={as_text(theirs)}" if not isinstance(theirs, dict | DictConfig) else path
            raise UserError(
                f"{typed}: what is compared has the same {said}; take it off this start, or give it to the search"
            )
