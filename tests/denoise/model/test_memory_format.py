"""In channels_last every map of a step and every weight stays so: a step that mixes formats takes far longer."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from denoise.config import catalog
from denoise.config.compose import compose
from denoise.training.train import prepare

BATCH, WIDTHS = 6, (16, 32)
SMALL = [f"data.batch_size={BATCH}", "model.width=16", "model.num_heads=2", "trainer.max_steps=1", "zero_output=false"]
KINDS = ("activation", "normalization", "weight_normalization", "feed_forward")
OPTIONS = [(kind, option) for kind in KINDS for option in catalog.options(kind)]
SHAPES = [(8, 4, 3, 3), (8, 4, 1, 1), (8, 1, 3, 3), (1, 4, 3, 3), (8, 1, 1, 1)]


class Mixed(TorchDispatchMode):
    """Count the operators that take maps of one shape in two formats."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self.maps = 0

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        formats: dict[torch.Size, set[bool]] = {}
        for tensor in tree_leaves((args, kwargs or {})):
            if isinstance(tensor, Tensor) and is_map(tensor):
                self.maps += 1
                formats.setdefault(tensor.shape, set()).add(tensor.stride(1) == 1)
        self.found[str(operator)] += any(len(channels_last) > 1 for channels_last in formats.values())
        return operator(*args, **(kwargs or {}))


def is_map(tensor: Tensor) -> bool:
    """(B, C, H, W), and not one number shown many times."""
    sized = tensor.ndim == 4 and len(tensor) == BATCH and tensor.shape[1] in WIDTHS and tensor.shape[2] > 1
    return sized and 0 not in tensor.stride()


@pytest.mark.parametrize(("kind", "option"), OPTIONS)
def test_a_step_mixes_no_formats(kind: str, option: str) -> None:
    module = prepare(compose([*SMALL, f"{kind}={option}"]).cfg)
    module.setup("fit")
    inputs = module.draw(0)
    with Mixed() as mixed:
        module.denoiser.loss(*inputs).mean().backward()
    assert mixed.maps > 100
    assert not +mixed.found, f"{kind}={option}: two formats in {dict(+mixed.found)}"


@pytest.mark.parametrize("option", catalog.options("weight_normalization"))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_weight_keeps_its_format_and_its_value(shape: tuple[int, ...], option: str) -> None:
    weights = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        layer = nn.Conv2d(shape[1], shape[0], shape[2:], bias=False)
        layer = catalog.build("weight_normalization", option, layer).to(memory_format=memory_format).eval()
        held = layer.weight if option == "none" else list(layer.parameters())[-1]
        assert layer.weight.stride() == held.stride()
        weights.append(layer.weight.detach())
    torch.testing.assert_close(*weights, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("option", catalog.options("normalization"))
def test_tokens_stay_in_one_piece(option: str) -> None:
    norm = catalog.build("normalization", option, WIDTHS[1])
    x = torch.randn(BATCH, 16, WIDTHS[1])
    took: list[Tensor] = []
    probe = x.clone().requires_grad_()
    probe.register_hook(took.append)
    y = norm(probe * 1.0)
    assert y.is_contiguous()
    y.backward(torch.randn_like(x))
    assert took[0].is_contiguous()
