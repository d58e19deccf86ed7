"""How busy the machine is during a training: MLflow's own monitor, where tracking.system_metrics asks for it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from search.tracking.tracker import Run


@contextmanager
def monitored(run: Run, asked: bool) -> Iterator[None]:
    """Within, CPU, memory, disk, network and GPUs are written to a run as system/..., every ten seconds.

    It is the whole machine that is measured, whatever else runs on it. What cannot be written is left out.
    """
    if not asked:
        yield
        return
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    logging.getLogger("mlflow.system_metrics").setLevel(logging.CRITICAL)
    monitor = SystemMetricsMonitor(run.run_id, resume_logging=True, tracking_uri=run.tracker.uri)
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()
