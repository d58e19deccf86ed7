"""How a search is divided over the cores of this machine. Its whole answer needs torch."""

import os
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

MOST_WORKERS = 4
MEASURED = ("step_seconds", "peak_memory_bytes")  # costs that are not counted
LAG = 3  # trials for each process: those that end early need not wait for one that does not
GPUS = ("/dev/nvidiactl", "/proc/driver/nvidia", "/dev/nvmap", "/dev/dxg", "/dev/kfd")  # of NVIDIA, WSL, ROCm


@dataclass(frozen=True)
class Division:
    """How a search is divided: processes, threads of each (None: torch's own number), and what of a trial waits.

    lag: a trial is drawn with the results of those begun so many before it.
    """

    workers: int
    threads: int | None
    lag: int


def division(cfg: DictConfig, cores: int | None = None) -> Division:
    """Divide the cores of this machine: as many processes as cores, four at most, on a GPU one.

    One alone where a step's time or a process's memory counts: beside others a step is slower, and what a process holds
    depends on what it trained before.
    """
    from denoise.training.accelerator import accelerator
    from search.trial import provenance

    search, threads = cfg.search, cfg.trainer.num_threads
    cores = cores or provenance.CORES
    workers = search.workers
    if workers is None:
        alone = _counts(cfg) or accelerator(cfg.trainer.accelerator) == "gpu"
        workers = 1 if alone else max(1, min(MOST_WORKERS, cores // (threads or 1)))
    share = max(1, cores // workers) if threads is None and workers > 1 else None
    return Division(workers, share, search.lag or (LAG * workers if workers > 1 else 1))


def likely_several(cfg: DictConfig) -> bool:
    """Whether there will be a second process, as far as that can be said without torch, which takes a second to import.

    False where there may be a GPU. Cores that share one's registers are counted as two here, by torch as one.
    """
    if cfg.search.workers is not None:
        return bool(cfg.search.workers > 1)
    if _counts(cfg) or (cfg.trainer.accelerator != "cpu" and any(Path(device).exists() for device in GPUS)):
        return False
    given = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, int(given) if given.isdecimal() else cores) >= 2 * (cfg.trainer.num_threads or 1)


def _counts(cfg: DictConfig) -> bool:
    """Whether a step's time or a process's memory counts."""
    search = cfg.search
    capped = any(search.caps[name] is not None for name in MEASURED)
    return capped or search.get("cost") in MEASURED or search.equal == "time"
