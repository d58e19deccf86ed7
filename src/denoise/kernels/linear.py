"""Linear layers over tokens."""

from pathlib import Path

import torch
from torch import Tensor, nn

SHARE = 3 << 20  # multiply-adds of a thread, from which on the convolution is quicker
IMAGES = 16  # with fewer, one thread does not convolve by oneDNN
BOTH = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()


def by_amd(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor is one of AMD's; where there is no such file, it is not known to be."""
    try:
        return "AuthenticAMD" in cpuinfo.read_text()
    except OSError:
        return False


CONVOLVES = BOTH and by_amd()


class Linear(nn.Linear):
    """W x + b for each token, torch's layer: (B, T, in) -> (B, T, out).

    On a CPU torch multiplies matrices by MKL, which on AMD's processors uses half of their width, and convolves by
    oneDNN, which uses all. So there a large product is done as a convolution of one position by one, on a view: the
    same sums, forward and backward in half the time (a Zen 5). On an Intel (Emerald Rapids) MKL is the quicker one:
    convolved, a step of the default U-Net takes 1.07 (one thread) to 1.10 (two) of the time.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self._as_convolution(x):
            return super().forward(x)
        kernel = self.weight[:, :, None, None]
        y = nn.functional.conv2d(x.unsqueeze(1).permute(0, 3, 1, 2), kernel, self.bias)  # (B, in, 1, T), channels_last
        return y.permute(0, 2, 3, 1).squeeze(1)

    def _as_convolution(self, x: Tensor) -> bool:
        if torch.compiler.is_compiling() or x.device.type != "cpu":
            return False
        if x.ndim != 3 or x.dtype != torch.float32:
            return False
        share = len(x) * x.shape[1] * self.in_features * self.out_features / torch.get_num_threads()
        return len(x) >= IMAGES and share >= SHARE and x.is_contiguous() and not torch.is_autocast_enabled("cpu")
