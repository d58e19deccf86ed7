"""Targets that have moved. A config that was recorded under an older name means the newer one, and keeps its hash."""

from typing import Any

MOVED = {
    "denoise.activation.Mish": "torch.nn.Mish",
    "denoise.unet.UNet": "denoise.model.unet.UNet",
    "denoise.dit.DiT": "denoise.model.dit.DiT",
    "denoise.denoiser.Denoiser": "denoise.denoiser.edm.EDM",
    "denoise.model.denoiser.Denoiser": "denoise.denoiser.edm.EDM",
    "denoise.solver.euler": "denoise.model.solver.euler",
    "denoise.solver.heun": "denoise.model.solver.heun",
    "denoise.lsuv.lsuv": "denoise.initializer.lsuv.lsuv",
    "denoise.pretrained.pretrained": "denoise.initializer.pretrained.pretrained",
    "search.sampler.TPE": "search.samplers.tpe.TPE",
    "search.sampler.Sobol": "search.samplers.qmc.QuasiRandom",
    "search.sampler.GaussianProcess": "optuna.samplers.GPSampler",
    "search.sampler.CMAES": "search.samplers.cmaes.CMAES",
    "search.sampler.NSGA2": "search.samplers.nsga2.NSGA2",
    "search.sampler.BruteForce": "optuna.samplers.BruteForceSampler",
    "search.pruner.FunnelPruner": "search.pruners.funnel.FunnelPruner",
    "search.pruner.Hyperband": "search.pruners.hyperband.Hyperband",
    "search.pruner.Wilcoxon": "optuna.pruners.WilcoxonPruner",
}
FIRST = {new: old for old, new in reversed(MOVED.items())}  # of several names the first one


def now(target: str) -> str:
    """The name that a target has now."""
    return MOVED.get(target, target)


def as_first_named(node: Any) -> Any:
    """A plain config with each `_target_` as it was first called: what is hashed, so that a move changes no hash."""
    if isinstance(node, dict):
        each = {key: as_first_named(value) for key, value in node.items()}
        return each | {"_target_": FIRST.get(str(node["_target_"]), node["_target_"])} if "_target_" in node else each
    return [as_first_named(value) for value in node] if isinstance(node, list) else node
