"""How a search is divided over the cores of this machine. It needs torch, but nothing else that is slow to import."""

from dataclasses import dataclass

from omegaconf import DictConfig

from denoise.accelerator import accelerator
from search import machine

MOST_WORKERS = 4
MEASURED = ("step_seconds", "peak_memory_bytes")  # costs that are not counted
LAG = 3  # trials for each process: those that end early need not wait for one that does not


@dataclass(frozen=True)
class Division:
    """How a search is divided: processes, threads of each (None: torch's own number), and what of a trial waits.

    lag: a trial is drawn with the results of those begun so many before it.
    """

    workers: int
    threads: int | None
    lag: int


def division(cfg: DictConfig, cores: int = machine.CORES) -> Division:
    """Divide the cores of this machine: as many processes as cores, four at most, on a GPU one.

    One alone where a step's time or a process's memory counts: beside others a step is slower, and what a process holds
    depends on what it trained before.
    """
    search, threads = cfg.search, cfg.trainer.num_threads
    workers = search.workers
    if workers is None:
        counts = search.get("cost") in MEASURED or any(search.caps[name] is not None for name in MEASURED)
        gpu = accelerator(cfg.trainer.accelerator) == "gpu"
        alone = gpu or counts or search.equal == "time"
        workers = 1 if alone else max(1, min(MOST_WORKERS, cores // (threads or 1)))
    share = max(1, cores // workers) if threads is None and workers > 1 else None
    return Division(workers, share, search.lag or (LAG * workers if workers > 1 else 1))
