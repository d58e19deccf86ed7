"""TPE: Optuna's, its two ways to model joint densities as one setting."""

from optuna.samplers import TPESampler


class TPE(TPESampler):
    """Optuna's TPE, each parameter alone; with `groups` a joint density of the parameters that occur together."""

    def __init__(
        self, *, n_startup_trials: int = 10, n_ei_candidates: int = 24, groups: bool = False, seed: int | None = None
    ) -> None:
        super().__init__(
            n_startup_trials=n_startup_trials,
            n_ei_candidates=n_ei_candidates,
            multivariate=groups,
            group=groups,
            warn_independent_sampling=False,
            seed=seed,
        )
