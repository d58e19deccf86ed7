"""Muon beside its formula, which test_optimizer.py has: what an update is, and whose numbers it gives."""

import pytest
import pytorch_optimizer
import torch
from torch import nn

from denoise.config import catalog
from denoise.optimizer import split_matrices


@pytest.mark.parametrize("shape", [(16, 16), (8, 32), (32, 8), (8, 4, 3, 3)])
def test_update_of_muon_is_orthogonal_and_of_adams_size(shape):
    """Singular values near 1 (Jordan's iteration leaves 0.7 to 1.2), and 0.2 in the root mean square."""
    torch.manual_seed(0)
    w = nn.Parameter(torch.randn(shape))
    before = w.detach().clone()
    optimizer = catalog.build("optimizer", "muon", [w], lr=0.1, weight_decay=0.0)
    w.grad = torch.randn(shape)
    optimizer.step()
    update = ((before - w.detach()) / 0.1).flatten(1)
    singular = torch.linalg.svdvals(update) / (0.2 * max(update.shape) ** 0.5)
    assert 0.6 < singular.min() and singular.max() < 1.3
    assert update.square().mean().sqrt() == pytest.approx(0.2, rel=0.25)


def test_muon_is_the_librarys_up_to_its_half_precision():
    """Wide, tall, square and convolution weights in both formats, a bias too: three steps of one problem."""
    shapes = [(16, 16), (8, 32), (32, 8), (8, 4, 3, 3), (8, 4, 3, 3), (1, 4, 1, 1), (12,)]
    torch.manual_seed(0)
    start = [torch.randn(shape) for shape in shapes]
    start[4] = start[4].contiguous(memory_format=torch.channels_last)
    pulls = [[torch.randn_like(w) for w in start] for _ in range(3)]
    how = {"lr": 0.05, "weight_decay": 0.1}
    ends = []
    for make in (
        lambda ws: catalog.build("optimizer", "muon", ws, **how),
        lambda ws: pytorch_optimizer.Muon(
            split_matrices({"params": ws}, {"use_muon": True, **how}, {"use_muon": False, **how}), use_adjusted_lr=True
        ),
    ):
        weights = [nn.Parameter(w.clone()) for w in start]
        optimizer = make(weights)
        for pull in pulls:
            for w, g in zip(weights, pull, strict=True):
                w.grad = g.clone()
            optimizer.step()
        ends.append([w.detach() for w in weights])
    for mine, theirs, was in zip(*ends, start, strict=True):
        assert mine.stride() == was.stride()
        assert (mine - theirs).norm() < 0.02 * (theirs - was).norm()


def test_muon_does_not_depend_on_the_memory_format():
    torch.manual_seed(0)
    w, g = torch.randn(8, 4, 3, 3), torch.randn(8, 4, 3, 3)
    ends = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        weight = nn.Parameter(w.clone(memory_format=memory_format))
        weight.grad = g.contiguous(memory_format=memory_format)
        catalog.build("optimizer", "muon", [weight], lr=0.1).step()
        ends.append(weight.detach())
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-6)
