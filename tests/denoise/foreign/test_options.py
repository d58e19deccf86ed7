"""Every option of the catalogue in a network that is not ours: it acts, and what it learns is learned."""

import ast
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn import functional

from denoise.config import catalog
from denoise.config.compose import compose
from denoise.foreign.host import Host
from denoise.training.build import build_parts

ROOT = Path(__file__).parents[3]
KINDS = ("activation", "normalization", "feed_forward", "weight_normalization", "initializer")
OPTIONS = [(k, o) for k in KINDS for o in catalog.options(k) if not catalog.entry(k, o).needs]
SAME = {("weight_normalization", "none"), ("weight_normalization", "weight_norm")}  # as functions; none is no change
SHAPE = (8, 4, 4)


class Mixed(nn.Module):
    """A convolution on maps, a feed-forward on tokens, the noise as an embedding; a function, modules, norms."""

    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(1, 16), nn.SiLU(), nn.Linear(16, 16))
        self.norm, self.conv = nn.GroupNorm(4, 8), nn.Conv2d(8, 16, 3, padding=1)
        self.token_norm, self.mlp = nn.LayerNorm(16), nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.last = nn.Conv2d(16, 8, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h = self.conv(functional.silu(self.norm(x))) + self.time(t[:, None])[:, :, None, None]
        tokens = h.flatten(2).transpose(1, 2)
        tokens = tokens + self.mlp(self.token_norm(tokens))
        return self.last(functional.silu(tokens.transpose(1, 2).reshape(h.shape)))


@pytest.fixture(scope="module")
def cfg() -> OmegaConf:
    return compose(["model=mine"]).cfg


@pytest.mark.parametrize(("kind", "option"), OPTIONS)
def test_an_option_acts_and_learns(kind: str, option: str, cfg: OmegaConf) -> None:
    entry = catalog.entry(kind, option)
    chosen = cfg.copy()
    chosen[kind] = {"_target_": entry.target, **entry.parameters}
    torch.manual_seed(0)
    host = Host(Mixed(), SHAPE, time="c_noise")
    before = host.run().detach()
    parts = build_parts(chosen)
    done = host.operate(parts)
    assert len(done.put) == {"activation": 4, "normalization": 2, "feed_forward": 1}.get(kind, 0)
    host.initialize(parts, 0)
    after = host.train().run()
    assert torch.allclose(after, before, atol=1e-5) == ((kind, option) in SAME)
    after.square().mean().backward()
    moved = {id(p) for module in done.modules for p in module.parameters() if p.requires_grad}
    for parameter in host.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()
        assert parameter.grad is not None or id(parameter) not in moved


def test_the_libraries_are_imported_where_a_config_asks_for_them_alone() -> None:
    """They take seconds, in every worker."""
    for path in [*(ROOT / "src").rglob("*.py"), *(ROOT / "search").rglob("*.py")]:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not {"diffusers", "transformers", "datasets"} & {name.partition(".")[0] for name in names}, path
