"""Optimizers that neither torch nor pytorch_optimizer has, or has in a form that can be used here."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from denoise.optimizer.groups import Halved

Betas = tuple[float, float]
DOMAINS = (
    *((name, 0, math.inf) for name in ("lr", "eps", "weight_decay", "matrix_eps", "gamma", "max_dim")),
    *((name, 0, 1) for name in ("betas", "momentum")),
    *((name, 1, math.inf) for name in ("every", "root_every")),
)  # setting, from, to below


def check(settings: Mapping[str, Any]) -> None:
    """Refuse settings out of their domain. Errors: ValueError, which names the setting and what is legal."""
    lr = settings["lr"]
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError(f"lr: a tensor of {lr.numel()} elements; must be a number, or a tensor of one")
    for name, low, high in DOMAINS:
        value = settings.get(name, low)
        for one in value if isinstance(value, tuple | list) else (value,):
            if not low <= one < high:
                legal = f"{low} or more" if high == math.inf else f"from {low} to below {high}"
                raise ValueError(f"{name}={value}: must be {legal}")


class Rule(torch.optim.Optimizer):
    """An optimizer that is one rule for a group: its `_update`. Updates are counted per group, from 1.

    Errors: ValueError for a setting out of its domain, of a group that is added later too.
    """

    def __init__(self, params: Iterable[Any], **defaults: Any) -> None:
        super().__init__(params, {**defaults, "step": 0})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, its settings checked. Errors: ValueError for one out of its domain, and torch's own."""
        if isinstance(param_group, dict):
            self._check({**self.defaults, **param_group})
        super().add_param_group(param_group)

    def _check(self, settings: dict[str, Any]) -> None:
        check(settings)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Update every group once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._prepare()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                group["step"] += 1
                self._update(group, parameters, [p.grad for p in parameters])
        return loss

    def _prepare(self) -> None:
        """Do what comes before the groups' updates."""

    def _update(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        raise NotImplementedError

    def _kept(self, parameters: list[Tensor], name: str) -> list[Tensor]:
        """One tensor of state for each parameter, zero at first."""
        for p in parameters:
            if name not in self.state[p]:
                self.state[p][name] = torch.zeros_like(p)
        return [self.state[p][name] for p in parameters]

    def _moments(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> list[list[Tensor]]:
        """m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2."""
        b1, b2 = group["betas"]
        m, v = self._kept(parameters, "m"), self._kept(parameters, "v")
        torch._foreach_lerp_(m, gradients, 1 - b1)
        torch._foreach_mul_(v, b2)
        torch._foreach_addcmul_(v, gradients, gradients, 1 - b2)
        return [m, v]

    def _adams(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        """m^ / (sqrt(v^) + eps), ^: bias corrected."""
        (b1, b2), t = group["betas"], group["step"]
        m, v = self._moments(group, parameters, gradients)
        below = torch._foreach_sqrt(v)
        torch._foreach_div_(below, (1 - b2**t) ** 0.5)
        torch._foreach_add_(below, group["eps"])
        torch._foreach_mul_(below, 1 - b1**t)
        return list(torch._foreach_div(m, below))

    def _decay(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        """w <- (1 - lr weight_decay) w."""
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - float(group["lr"]) * group["weight_decay"])

    def _descend(self, group: dict[str, Any], parameters: list[Tensor], updates: list[Tensor]) -> None:
        """w <- (1 - lr weight_decay) w - lr update."""
        self._decay(group, parameters)
        torch._foreach_add_(parameters, updates, alpha=-float(group["lr"]))


class AdamUncorrected(Rule):
    """m <- b1 m + (1-b1) g; v <- b2 v + (1-b2) g^2; w <- w - lr m / (sqrt(v) + eps).

    Adam (Kingma & Ba 2015, arXiv:1412.6980) without its bias correction: both averages start at zero, v far more
    slowly, so that the first step is (1 - b1) / sqrt(1 - b2) times Adam's: 3.2 at the usual betas, and the next are
    larger still. `weight_decay` is added to the gradient.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def _update(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        if group["weight_decay"]:
            gradients = list(torch._foreach_add(gradients, parameters, alpha=group["weight_decay"]))
        m, v = self._moments(group, parameters, gradients)
        below = torch._foreach_sqrt(v)
        torch._foreach_add_(below, group["eps"])
        torch._foreach_addcdiv_(parameters, m, below, -float(group["lr"]))


class Shampoo(Halved, Rule):
    """w <- (1 - lr weight_decay) w - lr |A| / |U| U, U = m x_1 L_1^(-1/2k) ... x_k L_k^(-1/2k), A Adam's step.

    Gupta, Koren & Singer 2018, arXiv:1802.09568: m the averaged gradient, L_i <- b2 L_i + (1 - b2) G_i G_i^T with G_i
    the gradient unfolded along its i-th mode; a matrix has k = 2 modes, a convolution weight 4. Theirs sums up
    where this averages. The length is that of Adam's step (grafting: Anil et al. 2020, arXiv:2002.09018), with
    which one `lr` serves matrices and the rest, for which the update is A itself: AdamW.

    The roots are taken anew in the first `root_every` steps and every so many steps from then on, of L_i plus
    `matrix_eps` times its largest eigenvalue. A mode of more than `max_dim` is left as it is and not counted in k.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: Betas = (0.9, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        matrix_eps: float = 1e-6,
        root_every: int = 10,
        max_dim: int = 512,
    ) -> None:
        every = {"matrix_eps": matrix_eps, "root_every": root_every, "max_dim": max_dim}
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, **every)

    def _apart(self, matrices: bool) -> dict[str, Any]:
        return {} if matrices else {"max_dim": 0}

    def _update(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        updates = self._adams(group, parameters, gradients)
        for i, p in enumerate(parameters):
            modes = [mode for mode, size in enumerate(p.shape) if 1 < size <= group["max_dim"]]
            if modes:
                turned = self._precondition(group, self.state[p], modes, gradients[i], self.state[p]["m"])
                updates[i] = turned * (updates[i].norm() / turned.norm().clamp(min=1e-30))
        self._descend(group, parameters, updates)

    def _precondition(
        self, group: dict[str, Any], state: dict[str, Tensor], modes: list[int], gradient: Tensor, update: Tensor
    ) -> Tensor:
        weight, t, power = 1 - group["betas"][1], group["step"], -0.5 / len(modes)
        for mode in modes:
            unfolded = gradient.movedim(mode, 0).flatten(1)
            gram = unfolded @ unfolded.T
            key = f"statistics_{mode}"
            state[key] = state[key].lerp_(gram, weight) if key in state else gram * weight
            if t % min(t, group["root_every"]) == 0:
                state[f"root_{mode}"] = _power(state[key], power, group["matrix_eps"])
            update = torch.tensordot(update, state[f"root_{mode}"], dims=([mode], [0])).movedim(-1, mode)
        return update


def _power(symmetric: Tensor, power: float, eps: float) -> Tensor:
    """(S + eps max(eigenvalues) I)^power by eigenvalues; a matrix of zeros gives a multiple of the identity.

    Where S is not finite neither is the result: what diverges is the training's to find, and no error here.
    """
    try:
        values, vectors = torch.linalg.eigh(symmetric)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        if not symmetric.isfinite().all():
            return torch.full_like(symmetric, float("nan"))
        values, vectors = (found.to(symmetric.dtype) for found in torch.linalg.eigh(symmetric.double()))
    values = values.clamp(min=0)
    return vectors * (values + eps * values[-1] + 1e-30) ** power @ vectors.T


class Sophia(Rule):
    """w <- (1 - lr weight_decay) w - lr clip(m / max(gamma h, eps), -1, 1), m <- b1 m + (1 - b1) g.

    Liu et al. 2023, arXiv:2305.14342, Sophia-G. Every `every` steps, the first among them, h <- b2 h + (1 - b2) c with
    c from `curvature`: in a training `DenoiseModule.curvature`, a Gauss-Newton diagonal. Nothing is bias corrected.
    Errors: RuntimeError at the first step where no `curvature` was set.
    """

    curvature: Callable[[list[Tensor]], list[Tensor]] | None = None

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: Betas = (0.965, 0.99),
        gamma: float = 0.01,
        eps: float = 1e-12,
        weight_decay: float = 0.0,
        every: int = 10,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, gamma=gamma, eps=eps, weight_decay=weight_decay, every=every)

    def _prepare(self) -> None:
        first = self.param_groups[0]
        parameters = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not parameters or max(group["step"] for group in self.param_groups) % first["every"]:
            return
        if self.curvature is None:
            raise RuntimeError("sophia needs a curvature: set optimizer.curvature, (parameters) -> one tensor for each")
        estimates = self.curvature(parameters)
        torch._foreach_lerp_(self._kept(parameters, "h"), estimates, 1 - first["betas"][1])

    def _update(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        m, h = self._kept(parameters, "m"), self._kept(parameters, "h")
        torch._foreach_lerp_(m, gradients, 1 - group["betas"][0])
        below = torch._foreach_mul(h, group["gamma"])
        torch._foreach_clamp_min_(below, group["eps"])
        updates = list(torch._foreach_div(m, below))
        torch._foreach_clamp_min_(updates, -1.0)
        torch._foreach_clamp_max_(updates, 1.0)
        self._descend(group, parameters, updates)
