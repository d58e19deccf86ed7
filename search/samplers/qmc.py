"""Quasi-random points: Optuna's, one sequence for all trials of a search."""

from optuna.samplers import QMCSampler, RandomSampler


class QuasiRandom(QMCSampler):
    """Optuna's QMC sampler; what the sequence does not cover is drawn at random, by the seed of the draw."""

    def __init__(
        self, *, qmc_type: str = "sobol", scramble: bool = True, seed: int | None = None, search_seed: int | None = None
    ) -> None:
        super().__init__(
            qmc_type=qmc_type,
            scramble=scramble,
            seed=search_seed,
            independent_sampler=RandomSampler(seed),
            warn_independent_sampling=False,
        )
