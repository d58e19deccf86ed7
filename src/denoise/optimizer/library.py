"""The optimizers of pytorch_optimizer, with what torch asks of any Optimizer and they do not do.

Imported where an option names one: the library takes its time.
"""

from collections.abc import Callable, Iterable
from typing import Any

import pytorch_optimizer
from torch.optim import Optimizer

from denoise.optimizer.groups import Halved
from denoise.optimizer.rule import check


class Library(Optimizer):
    """One that refuses bad settings by a ValueError, takes a tensor for `lr`, and can be copied and pickled.

    A step at which no parameter has a gradient does nothing, and is not counted.
    """

    def __init__(self, params: Iterable[Any], lr: Any, **settings: Any) -> None:
        check({"lr": lr, **settings})
        super().__init__(params, lr=float(lr), **settings)  # type: ignore[call-arg]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Update every group once, if there is anything to update by."""
        if closure is None and not any(p.grad is not None for group in self.param_groups for p in group["params"]):
            return None
        return super().step(closure)  # type: ignore[safe-super]

    def __getstate__(self) -> dict[str, Any]:
        return {name: own for name, own in vars(self).items() if not callable(own) and "hook" not in name}


class Adan(Library, pytorch_optimizer.Adan):
    """Adam with Nesterov's momentum from differences of gradients. Xie et al. 2022, arXiv:2208.06677."""


class Lamb(Library, pytorch_optimizer.Lamb):
    """Adam's step of a length relative to each tensor's. You et al. 2020, arXiv:1904.00962."""


class Lion(Library, pytorch_optimizer.Lion):
    """The sign of an averaged gradient. Chen et al. 2023, arXiv:2302.06675."""


class Prodigy(Library, pytorch_optimizer.Prodigy):
    """Adam that estimates its own lr, for all groups together. Mishchenko & Defazio 2023, arXiv:2306.06101.

    The first group's `lr` and `betas` are those of all.
    """


class Soap(Library, Halved, pytorch_optimizer.SOAP):
    """Adam in the eigenbasis of Shampoo's statistics for matrices, AdamW for the rest.

    Vyas et al. 2024, arXiv:2409.11321. A convolution weight has four modes with a basis each, as in Shampoo. The rest
    is turned by nothing, and neither is a mode of more than `max_precondition_dim`, whose basis would cost too much.
    """

    def __init__(self, params: Iterable[Any], lr: Any = 3e-3, max_precondition_dim: int = 512, **settings: Any) -> None:
        super().__init__(params, lr=lr, max_precondition_dim=max_precondition_dim, **settings)

    def _apart(self, matrices: bool) -> dict[str, Any]:
        return {} if matrices else {"max_precondition_dim": 0}
