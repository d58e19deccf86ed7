"""What a training costs: parameters, operations, memory, the use of a GPU."""

import contextlib
import copy
import ctypes
import platform
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from denoise.denoiser.preconditioned import Denoiser


def parameters(model: nn.Module) -> int:
    """Count the trainable numbers."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def flops_per_step(
    denoiser: Denoiser,
    batch_size: int,
    shape: tuple[int, int, int],
    num_classes: int,
    conditions: Mapping[str, Tensor] | None = None,
) -> int:
    """Count the floating-point operations of one training step, forward and backward, as torch's counter does.

    Matrix products, convolutions and attention, two operations a multiply-add; elementwise maths and the
    optimizer are left out. Counted on two images of `shape` (channels, height, width), with `conditions` of two images
    where the network takes any, then scaled to the batch; once for all models of the same layers.
    """
    told = dict(conditions or {})
    probed = (tuple(_layers(denoiser)), shape, num_classes, *((name, each.shape) for name, each in told.items()))
    if probed not in _counted:
        _counted[probed] = _count(denoiser, shape, num_classes, told)
    return _counted[probed] * batch_size


ELEMENTWISE = ("activation", "normalization")  # kinds whose members, torch's and ours, mostly multiply no matrices
SMALL_MODEL, SMALL_IMAGE = 10_000_000, 32  # parameters; pixels of a side
_counted: dict[tuple[object, ...], int] = {}


def _layers(model: nn.Module) -> Iterator[tuple[object, ...]]:
    """What the count depends on: each layer's name, class, settings and shapes, but for elementwise ones."""
    skipped: tuple[str, ...] = ()
    for name, module in model.named_modules():
        known = type(module).__module__.startswith(("torch.nn.", "denoise."))
        tensors = [*module.parameters(), *module.buffers()]
        if known and getattr(module, "kind", None) in ELEMENTWISE and all(tensor.ndim < 2 for tensor in tensors):
            skipped += (f"{name}.",)
        elif not name.startswith(skipped):
            shapes = tuple(tuple(p.shape) for p in module.parameters(recurse=False))
            plain = {k: v for k, v in vars(module).items() if isinstance(v, int | tuple | str) and k != "training"}
            yield name, type(module).__name__, shapes, tuple(sorted(plain.items(), key=str))


def _count(
    denoiser: Denoiser,
    shape: tuple[int, int, int],
    num_classes: int,
    conditions: Mapping[str, Tensor] | None = None,
) -> int:
    probe = 2
    # without storage torch's operators are Python, which takes two or three times as long as to compute a small model
    small = parameters(denoiser) <= SMALL_MODEL and max(shape[1:]) <= SMALL_IMAGE
    place = "cpu" if small else "meta"
    blank = copy.deepcopy(denoiser).to(place).eval()  # eval: nothing is drawn
    images = torch.zeros(probe, *shape, device=place)
    labels = torch.zeros(probe, dtype=torch.int64, device=place) if num_classes else None
    # the counter does not know the CPU's own attention
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        told = {name: each.to(place) for name, each in (conditions or {}).items()}
        blank.loss(images, torch.ones(probe, device=place), torch.zeros_like(images), labels, told).sum().backward()
    return counter.get_total_flops() // probe


def keep_freed_memory() -> None:
    """Have glibc keep what a step frees for the next step, instead of giving it back to the system.

    Each step frees and asks for the same large blocks; by default each comes back as fresh pages that the kernel
    clears first (some 2,000 a step of the default U-Net, a tenth or more of its time). A no-op without glibc.
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


@contextlib.contextmanager
def no_subnormals(device: torch.device) -> Iterator[None]:
    """Take numbers below 1.2e-38 for 0 within, where a CPU computes in one thread: it takes ten times as long for them.

    They come from far in a tail, such as gelu's slope at -13. With several threads nothing changes: each has a setting
    of its own, so that a result would depend on when a thread was started. A thread that is started within takes over
    the setting and keeps it.
    """
    subnormal = torch.tensor(1e-40)
    if device.type != "cpu" or torch.get_num_threads() > 1 or not subnormal * 1.0:
        yield
        return
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


@cache
def _glibc() -> ctypes.CDLL | None:
    if platform.libc_ver()[0] != "glibc":
        return None
    with contextlib.suppress(OSError):
        return ctypes.CDLL("libc.so.6")
    return None


class PeakMemory:
    """The most memory held since `start`, in bytes: allocated on a GPU, resident on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            libc = _glibc()
            if libc is not None:
                libc.malloc_trim(0)  # what an earlier training freed is not this one's
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
