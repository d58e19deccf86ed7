"""Which precision a formula is computed in."""

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """Half precision as float32, as torch's own norms take it under autocast."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
