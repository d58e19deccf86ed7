"""Hyperband: Optuna's, which lets a trial's bracket be told by the study's name and the trial's number."""

from optuna.pruners import HyperbandPruner


class Hyperband(HyperbandPruner):
    """Successive halving in brackets: s begins at min_resource * reduction_factor^s. Errors: ValueError."""

    def __init__(self, *, min_resource: int, max_resource: int, reduction_factor: int = 3) -> None:
        if max_resource < min_resource:
            raise ValueError(f"max_resource={max_resource}: must be min_resource={min_resource} or more")
        super().__init__(min_resource, max_resource, reduction_factor)
