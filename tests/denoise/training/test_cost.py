"""What is counted as cost, on networks small enough to count by hand."""

import resource
from pathlib import Path

import pytest
import torch
from torch import nn

from denoise.config import catalog, compose
from denoise.denoiser.edm import EDM
from denoise.training import cost
from denoise.training.train import prepare


class Convolutions(nn.Module):
    def __init__(self, *channels: int) -> None:
        super().__init__()
        pairs = zip(channels, channels[1:], strict=False)
        self.layers = nn.Sequential(*(nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in pairs))

    def forward(self, x, c_noise, labels):
        return self.layers(x)


def counted(*channels: int, batch: int = 4, size: int = 6) -> int:
    model = EDM(Convolutions(*channels), sigma_data=0.5, P_mean=-1.2, P_std=1.2)
    return cost.flops_per_step(model, batch, (channels[0], size, size), num_classes=0)


def forward(a: int, b: int, batch: int = 4, size: int = 6) -> int:
    return 2 * batch * size**2 * a * b * 9


def test_flops_of_convolutions():
    """Forward, the gradient of the weight, and of the input but for the first layer, whose input needs none."""
    assert counted(3, 3) == 2 * forward(3, 3)
    assert counted(1, 5, 1) == 2 * forward(1, 5) + 3 * forward(5, 1)


def test_flops_are_of_the_images_own_shape():
    model = EDM(Convolutions(3, 3), sigma_data=0.5, P_mean=-1.2, P_std=1.2)
    assert cost.flops_per_step(model, 4, (3, 6, 10), num_classes=0) == 2 * (2 * 4 * 6 * 10 * 3 * 3 * 9)


def tiny(*overrides: str):
    base = ["model.width=8", "model.embedding_dim=16", "model.num_heads=2", "trainer.accelerator=cpu"]
    return prepare(compose.compose([*base, *overrides]).cfg).denoiser


WEIGHT_NORMALIZATIONS = [[f"weight_normalization={option}"] for option in catalog.options("weight_normalization")]


@pytest.mark.parametrize("overrides", [["model.class_conditional=true"], *WEIGHT_NORMALIZATIONS], ids=" ".join)
def test_flops_scale_with_the_batch_and_leave_the_model_as_it_was(overrides):
    model = tiny(*overrides)
    classes = 10 if "model.class_conditional=true" in overrides else 0
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    one, eight, odd = (cost.flops_per_step(model, batch, (1, 8, 8), classes) for batch in (2, 16, 5))
    assert one > 0 and eight == 8 * one and odd == 5 * one // 2
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(p.grad is not None and p.grad.any() for p in model.parameters()) and model.training


def test_flops_grow_with_the_width():
    assert cost.flops_per_step(tiny("model.width=16"), 2, (1, 8, 8), 0) > 2 * cost.flops_per_step(
        tiny(), 2, (1, 8, 8), 0
    )


CONFIGS = [
    (),
    ("activation=prelu", "normalization=rms_norm"),
    ("feed_forward=geglu",),
    ("normalization=local_response_norm",),
    ("weight_normalization=weight_norm",),
    ("placement=sandwich",),
    ("model.num_heads=4",),
    ("model.class_conditional=true",),
]


def test_what_was_counted_for_one_model_holds_for_another():
    """A count is kept by layers; whatever was counted before, the answer is that of counting anew."""
    for overrides in [*CONFIGS, *reversed(CONFIGS)]:
        model, classes = tiny(*overrides), 10 if "model.class_conditional=true" in overrides else 0
        kept = cost.flops_per_step(model, 2, (1, 8, 8), classes)
        assert kept == 2 * cost._count(model, (1, 8, 8), classes), overrides


@pytest.mark.parametrize("overrides", [*CONFIGS, ("model=dit", "model.dim=16", "model.depth=1")])
def test_a_model_counts_the_same_with_and_without_storage(overrides, monkeypatch):
    """Small ones are counted while they compute, large ones on torch's meta device."""
    model = prepare(compose.compose([*overrides, "trainer.num_threads=1"]).cfg).denoiser
    classes = 10 if "model.class_conditional=true" in overrides else 0
    computed = cost._count(model, (1, 8, 8), classes)
    monkeypatch.setattr(cost, "SMALL_MODEL", 0)
    assert cost._count(model, (1, 8, 8), classes) == computed


def test_parameters_are_those_that_train():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2, bias=False))
    assert cost.parameters(model) == 3 * 4 + 4 + 4 + 4 + 4 * 2
    model[0].weight.requires_grad_(False)
    assert cost.parameters(model) == 4 + 4 + 4 + 4 * 2


def test_peak_memory_sees_a_large_tensor():
    """200 MB above the peak, which not every system forgets."""
    memory = cost.PeakMemory(torch.device("cpu"))
    before = memory.bytes()
    pages = Path("/proc/self/statm")
    resident = int(pages.read_text().split()[1]) * resource.getpagesize() if pages.exists() else 0
    held = torch.ones((200_000_000 + before - resident) // 4)
    assert memory.bytes() - before > 100e6 and held.sum() > 0
    del held
    assert memory.bytes() - before > 100e6


def test_no_gpu_no_utilization():
    assert cost.gpu_utilization(torch.device("cpu")) is None


@pytest.fixture
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
    torch.set_flush_denormal(False)


@pytest.mark.usefixtures("_threads")
@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="a processor without the setting")
@pytest.mark.parametrize(("threads", "before", "within"), [(1, False, True), (1, True, True), (2, False, False)])
def test_subnormals_count_as_zero_in_one_thread_and_the_setting_is_put_back(threads, before, within):
    def flushed() -> bool:
        return not (torch.full((3,), 1e-40) * 1.0).any()

    torch.set_num_threads(threads)
    torch.set_flush_denormal(before)
    with pytest.raises(KeyError), cost.no_subnormals(torch.device("cpu")):
        assert flushed() == within
        raise KeyError
    assert flushed() == before
