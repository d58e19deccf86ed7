"""Schedule-free AdamW: it evaluates at an average of its own."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from denoise.optimizer.rule import Betas, Rule


class ScheduleFreeAdamW(Rule):
    """z <- z - lr (g / (sqrt(v^) + eps) + weight_decay y); x <- (1 - c) x + c z; y <- (1 - b1) z + b1 x.

    v <- b2 v + (1 - b2) g^2, v^ = v / (1 - b2^t); c = l^2 / (the sum of all l^2 so far), l the largest lr so far.
    Defazio et al. 2024, arXiv:2405.15682. The parameters hold y in training, where g is taken, and x after `eval()`.
    x is not kept: y and z give it. Errors: ValueError for b1 = 0, where they do not.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        state = {"largest": 0.0, "total": 0.0, "training": True}
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, **state)

    def _check(self, settings: dict[str, Any]) -> None:
        super()._check(settings)
        if settings["betas"][0] == 0:
            raise ValueError("betas: the first is 0; schedule-free needs one above 0, such as 0.9")

    def _update(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        lr, (b1, b2) = float(group["lr"]), group["betas"]
        group["largest"] = max(group["largest"], lr)
        group["total"] += group["largest"] ** 2
        c = group["largest"] ** 2 / group["total"] if group["total"] else 0.0
        for p in parameters:
            if "z" not in self.state[p]:
                self.state[p]["z"] = p.clone()
        z, v = self._kept(parameters, "z"), self._kept(parameters, "v")
        torch._foreach_mul_(v, b2)
        torch._foreach_addcmul_(v, gradients, gradients, 1 - b2)
        below = torch._foreach_sqrt(v)
        torch._foreach_div_(below, (1 - b2 ** group["step"]) ** 0.5)
        torch._foreach_add_(below, group["eps"])
        steps = list(torch._foreach_div(gradients, below))
        if group["weight_decay"]:
            torch._foreach_add_(steps, parameters, alpha=group["weight_decay"])
        # y' = (1 - b1) z' + b1 ((1 - c) x + c z'), with z' = z - lr s and b1 x = y - (1 - b1) z
        torch._foreach_lerp_(parameters, z, c)
        torch._foreach_add_(parameters, steps, alpha=-lr * (1 - b1 * (1 - c)))
        torch._foreach_add_(z, steps, alpha=-lr)

    @torch.no_grad()
    def eval(self) -> None:
        """Put x, the average, into the parameters: x = z + (y - z) / b1."""
        self._move(training=False)

    @torch.no_grad()
    def train(self) -> None:
        """Put y, where the gradient is taken, into the parameters: y = z + b1 (x - z)."""
        self._move(training=True)

    def _move(self, training: bool) -> None:
        for group in self.param_groups:
            if group["training"] != training:
                group["training"] = training
                factor = group["betas"][0] if training else 1 / group["betas"][0]
                for p in group["params"]:
                    if "z" in self.state[p]:
                        p.lerp_(self.state[p]["z"], 1 - factor)
