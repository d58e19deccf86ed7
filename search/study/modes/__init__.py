"""What a search asks, as three modes: which trials it has, which of them are compared, and by which values."""

from denoise.config.compose import Composed
from denoise.errors import UserError, choose
from search.study.modes.ablation import Ablation as Ablation
from search.study.modes.joint import Joint as Joint
from search.study.modes.joint import Start as Start
from search.study.modes.joint import further as further
from search.study.modes.pareto import Pareto as Pareto

MODES: dict[str, type[Joint]] = {mode.name: mode for mode in (Joint, Ablation, Pareto)}
WANTS = {"ablation": "scientific", "pareto": "cost"}  # what a mode is asked by, which not every search has


def find(composed: Composed) -> type[Joint]:
    """The mode of a composed search. Errors: UserError."""
    name = composed.cfg.search.mode
    if name not in MODES:
        raise UserError(f"search.mode={name}: unknown; {choose(str(name), MODES)}")
    if (key := WANTS.get(name, "mode")) not in composed.cfg.search:
        raise UserError(
            f"search.mode={name}: search={composed.choices['search']} has no search.{key}; write search={name}"
        )
    return MODES[name]
