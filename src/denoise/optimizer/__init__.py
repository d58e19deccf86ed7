"""Optimizers beyond torch's own, and who gets weight decay. Call shape: (params) -> Optimizer.

Two attributes are a contract with the training. `eval()` and `train()` switch an optimizer that averages by itself
between its averaged weights, which are evaluated, and those that it trains. `curvature`, (parameters) -> one tensor
each, is set by the training where an optimizer has it: it estimates the diagonal of the loss's curvature. One whose
file says `elementwise` gets a flat tensor a group, of which the model's parameters are parts, and every gradient.
"""

from denoise.optimizer.adopt import Adopt
from denoise.optimizer.groups import Halved, is_matrix, parameter_groups, split_matrices
from denoise.optimizer.joined import joined
from denoise.optimizer.muon import Muon
from denoise.optimizer.rule import AdamUncorrected, Shampoo, Sophia
from denoise.optimizer.schedule_free import ScheduleFreeAdamW

__all__ = [
    "AdamUncorrected",
    "Adopt",
    "Halved",
    "Muon",
    "ScheduleFreeAdamW",
    "Shampoo",
    "Sophia",
    "is_matrix",
    "joined",
    "parameter_groups",
    "split_matrices",
]
