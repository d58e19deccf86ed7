"""The samplers of conf/sampler that are not Optuna's as they are."""
