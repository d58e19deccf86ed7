"""The listing of sites, of a network of the user's and of ours."""

from pathlib import Path

import pytest

from denoise.config import catalog
from denoise.config.compose import compose
from denoise.errors import UserError
from denoise.evaluation import reach
from denoise.training.build import build_backbone, build_parts
from search.__main__ import main
from search.tracking.record import check_overrides

NET = """
import torch
from torch import nn
from torch.nn import functional as F

class Small(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.first, self.gate, self.time = nn.Conv2d(channels, 4, 1), nn.Sigmoid(), nn.Linear(1, 4)

    def forward(self, x, t):
        h = F.silu(self.first(x)) * self.gate(self.time(t[:, None]))[:, :, None, None]
        return h.mean(1, keepdim=True) + x
"""


def test_make_sites_lists_what_is_reached_and_why_the_rest_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "small_net.py").write_text(NET)
    status = main(["sites", "--config-dir", str(tmp_path), "model=mine", "model._target_=small_net.Small"])
    silu, sigmoid, count = capsys.readouterr().out.splitlines()
    assert status == 0 and count == "reached: activation 1 of 2, normalization 0 of 0, feed_forward 0 of 0"
    assert silu == f"activation F.silu at the model (Small, {tmp_path.name}/small_net.py:12) 2x4x8x8 residual: reached"
    assert sigmoid.startswith("activation Sigmoid at gate (Small,") and "2x4 embedding: left: a gate" in sigmoid


@pytest.mark.parametrize("model", ["unet", "dit"])
def test_of_our_own_networks_each_place_runs_once(model: str) -> None:
    """As many as are taken from the factories, and in the same parts."""
    cfg = compose([f"model={model}"]).cfg
    counted = reach.look(cfg).places
    found = reach.sites(cfg)
    for kind in reach.TAKEN:
        for part in build_backbone(cfg, reach.images.load(cfg.data), build_parts(cfg)).part_names:
            listed = [site for site in found if site.kind == kind and site.part == part]
            taken = counted.get((kind, part), 0)
            assert len(listed) == taken and not any(site.why for site in listed)


def test_a_record_may_name_a_class_where_its_folder_was_given_by_hand(tmp_path: Path) -> None:
    (tmp_path / "class_of_mine.py").write_text(NET)
    named = ["model=mine", "model._target_=class_of_mine.Small"]
    for overrides in (named, ["model._target_=os.system"]):
        with pytest.raises(UserError, match="names a class of your own; add --config-dir FOLDER"):
            check_overrides(overrides, "RUN=a")
    catalog.add_folder(tmp_path)
    check_overrides(named, "RUN=a")
    for override in (
        "model._target_=os.system",
        "activation._target_=class_of_mine.Small",
        "+model._target_=os.system",
    ):
        with pytest.raises(UserError, match="names a class of your own|would choose code to run"):
            check_overrides([override], "RUN=a")
