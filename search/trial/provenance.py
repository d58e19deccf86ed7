"""What the bits of a training depend on beside its config: this machine, torch, and the code that trains."""

import hashlib
import platform
from functools import cache
from pathlib import Path

import torch

import denoise

CORES = torch.get_num_threads()  # as torch found them, or OMP_NUM_THREADS says


def describe() -> dict[str, str]:
    """Name the processor, the threads, the GPU and the torch build that a training runs on."""
    found = {
        "processor": _processor(),
        "threads": str(torch.get_num_threads()),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
        found["cuda"] = str(torch.version.cuda)
    return found


@cache
def code() -> str:
    """Twelve digits that name the content of the package that trains; what the user adds is named by its config."""
    found = hashlib.sha256()
    folder = Path(denoise.__file__).parent
    for path in sorted(folder.rglob("[!.]*.py")):
        content = path.read_bytes()
        found.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode() + content)
    return found.hexdigest()[:12]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        fields = dict(line.partition(":")[::2] for line in lines if ":" in line)
        named = {key.strip(): value.strip() for key, value in fields.items()}
        return " ".join(named[key] for key in ("model name", "cpu family", "model", "stepping") if key in named)
    except OSError:
        return platform.processor() or platform.machine()
