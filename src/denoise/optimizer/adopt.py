"""ADOPT: Adam with the second moment of the steps before."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from denoise.optimizer.rule import Betas, Rule


class Adopt(Rule):
    """m <- b1 m + (1 - b1) clip(g / max(sqrt(v), eps), -c, c); w <- (1 - lr weight_decay) w - lr m, then v takes in g.

    v <- b2 v + (1 - b2) g^2, and c = n^(1/4) at a group's n-th update. Taniguchi et al. 2024, arXiv:2411.02853. A
    parameter's first gradient gives v = g^2 and moves nothing: no decay either, as in the authors' code.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: Betas = (0.9, 0.9999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def _update(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        new = [(p, g) for p, g in zip(parameters, gradients, strict=True) if "v" not in self.state[p]]
        old = [(p, g) for p, g in zip(parameters, gradients, strict=True) if "v" in self.state[p]]
        for p, g in new:
            self.state[p].update(m=torch.zeros_like(p), v=torch.zeros_like(p).addcmul_(g, g))
        if not old:
            return
        parameters, gradients = [p for p, _ in old], [g for _, g in old]
        m, v = self._kept(parameters, "m"), self._kept(parameters, "v")
        (b1, b2), bound = group["betas"], (group["step"] - 1) ** 0.25
        below = torch._foreach_sqrt(v)
        torch._foreach_clamp_min_(below, group["eps"])
        steps = list(torch._foreach_div(gradients, below))
        torch._foreach_clamp_min_(steps, -bound)
        torch._foreach_clamp_max_(steps, bound)
        torch._foreach_lerp_(m, steps, 1 - b1)
        self._descend(group, parameters, m)
        torch._foreach_mul_(v, b2)
        torch._foreach_addcmul_(v, gradients, gradients, 1 - b2)
