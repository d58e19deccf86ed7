"""What a training costs: parameters, operations, memory, the use of a GPU."""

import contextlib
import copy
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from denoise.denoiser import Denoiser


def parameters(model: nn.Module) -> int:
    """Count the trainable numbers."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def flops_per_step(denoiser: Denoiser, batch_size: int, channels: int, size: int, num_classes: int) -> int:
    """Count the floating-point operations of one training step, forward and backward, as torch's counter does.

    Matrix products, convolutions and attention, two operations a multiply-add; elementwise maths and the
    optimizer are left out. Counted on two images of a copy without storage, then scaled to the batch; once for all
    models of the same layers.
    """
    shapes = tuple(tuple(p.shape) for p in denoiser.parameters())
    probed = (repr(denoiser.backbone), shapes, channels, size, num_classes)
    if probed not in _counted:
        _counted[probed] = _count(denoiser, channels, size, num_classes)
    return _counted[probed] * batch_size


_counted: dict[tuple[object, ...], int] = {}


def _count(denoiser: Denoiser, channels: int, size: int, num_classes: int) -> int:
    probe = 2
    blank = copy.deepcopy(denoiser).to("meta").eval()  # stochastic layers have nothing to draw from there
    images = torch.zeros(probe, channels, size, size, device="meta")
    labels = torch.zeros(probe, dtype=torch.int64, device="meta") if num_classes else None
    with FlopCounterMode(display=False) as counter:
        blank.loss(images, torch.ones(probe, device="meta"), torch.zeros_like(images), labels).sum().backward()
    return counter.get_total_flops() // probe


class PeakMemory:
    """The most memory held since `start`, in bytes: allocated on a GPU, resident on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the earlier peak

    def bytes(self) -> int:
        """Read the peak."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        status = Path("/proc/self/status")
        if status.exists():
            for line in status.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def gpu_utilization(device: torch.device) -> float | None:
    """The share of the last moments in which a kernel ran, 0 to 1; None without a GPU or its monitor."""
    if device.type != "cuda":
        return None
    try:
        return torch.cuda.utilization(device) / 100
    except (ModuleNotFoundError, RuntimeError):
        return None
