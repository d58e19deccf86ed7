"""What a search has found, in a plain script: the same network and the same first update as the trial's."""

from pathlib import Path

import pytest
import torch
from torch import nn

import denoise
from denoise import best_file
from denoise.config import catalog
from denoise.config.compose import as_yaml, compose
from denoise.errors import UserError
from denoise.training.train import prepare

NET = """
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.first, self.time = nn.Conv2d(1, width, 3, padding=1), nn.Linear(1, width)
        self.norm, self.last = nn.GroupNorm(2, width), nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x, t):
        h = self.first(x) + self.time(t[:, None] / 1000)[:, :, None, None]
        return self.last(F.silu(self.norm(h)))
"""
FOUND = [
    *("data=digits", "data.batch_size=8", "trainer.accelerator=cpu", "trainer.max_steps=20", "seed=3"),
    *("activation=swish", "activation.beta=1.5", "normalization=rms_norm", "initializer=orthogonal"),
    *("optimizer=lion", "optimizer.lr=0.002", "lr_schedule=cosine"),
]


@pytest.mark.filterwarnings("ignore")
def test_a_script_has_the_network_and_the_update_of_the_trial(tmp_path: Path) -> None:
    (tmp_path / "plain_net.py").write_text(NET)
    (tmp_path / "conf" / "activation").mkdir(parents=True)
    (tmp_path / "conf" / "activation" / "unused.yaml").write_text("# f\n# s\n_target_: torch.nn.ReLU\nspace: {}\n")
    catalog.add_folder(tmp_path)
    mine = ["model=mine", "model._target_=plain_net.Net", "model.kwargs={width:8}", "allow=[plain_net.]"]
    trial = prepare(compose([*FOUND, *mine]).cfg)
    (tmp_path / "best.yaml").write_text(as_yaml(best_file.content([*FOUND, *mine[:3]])))

    from plain_net import Net  # type: ignore[import-not-found]

    model = Net(width=8)
    done = denoise.apply(model, tmp_path / "best.yaml", shape=(1, 8, 8))
    theirs = {k.removeprefix("backbone.net."): v for k, v in trial.denoiser.state_dict().items()}
    assert model.state_dict().keys() == theirs.keys() and {site.kind for site in done.put} == {
        "activation",
        "normalization",
    }
    assert all(torch.equal(value, theirs[name]) for name, value in model.state_dict().items())
    x, t = torch.randn(4, 1, 8, 8), torch.full((4,), 300.0)
    assert torch.equal(model(x, t), trial.denoiser.backbone.net(x, t))  # type: ignore[union-attr, operator]

    optimizer, schedule = denoise.make_optimizer(model, tmp_path / "best.yaml", max_steps=20)
    its = trial.configure_optimizers()["optimizer"]
    images, sigma, noise, labels, _ = trial.draw(0)
    trial.denoiser.loss(images, sigma, noise, labels).mean().backward()
    gradients = {k: p.grad for k, p in trial.denoiser.backbone.net.named_parameters()}  # type: ignore[union-attr]
    for name, parameter in model.named_parameters():
        parameter.grad = gradients[name].clone()
    for each in (its, optimizer):
        each.step()
    schedule.step()
    after = dict(trial.denoiser.backbone.net.named_parameters())  # type: ignore[union-attr]
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, after[name])


def test_what_cannot_be_applied_is_refused_in_a_line(tmp_path: Path) -> None:
    path, net = tmp_path / "best.yaml", nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
    path.write_text(as_yaml(best_file.content(["activation=gelu", "initializer=orthogonal"])))
    with pytest.raises(UserError, match=r"Sequential: says no image size; give shape="):
        denoise.apply(net, path)
    path.write_text("activation: gelu\n")
    with pytest.raises(UserError, match="not a best.yaml"):
        denoise.apply(net, path, shape=(1, 8, 8))
    with pytest.raises(AttributeError, match="no attribute 'reserve'"):
        _ = denoise.reserve  # type: ignore[attr-defined]


def test_the_face_of_the_package() -> None:
    assert "silu" in denoise.options("activation")
    assert isinstance(denoise.build("activation", "silu"), nn.Module)
