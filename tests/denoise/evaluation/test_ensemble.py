"""An ensemble against its members: one alone is its training's objective, several are the mean of their predictions."""

import pytest
import torch
from safetensors.torch import save_file

from denoise.config.compose import compose
from denoise.denoiser.edm import LogNormal
from denoise.errors import UserError
from denoise.evaluation.ensemble import Ensemble, Member, evaluate, read
from denoise.training.module import FixedSet
from denoise.training.train import train

pytestmark = pytest.mark.filterwarnings("ignore")
TINY = [
    *("model.width=8", "model.embedding_dim=16", "model.num_heads=2", "data.batch_size=8", "trainer.max_steps=4"),
    *(
        "trainer.val_every=4",
        "trainer.val_samples=20",
        "trainer.gap_samples=16",
        "solver.steps=2",
        "solver.images=4",
        "trainer.num_threads=1",
    ),
]
CONFIGS = (["seed=1"], ["seed=2"], ["seed=1", "activation=relu", "normalization=batch_norm", "optimizer=lion"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Member, dict[str, float]]]:
    folder, found = tmp_path_factory.mktemp("members"), []
    for i, overrides in enumerate(CONFIGS):
        cfg = compose([*TINY, *overrides]).cfg
        result = train(cfg)
        save_file({name: t.contiguous() for name, t in result.weights.items()}, folder / f"{i}.safetensors")
        found.append((Member(cfg, folder / f"{i}.safetensors"), result.metrics))
    return found


@pytest.mark.parametrize("which", range(len(CONFIGS)))
def test_one_member_has_the_objective_of_its_training(
    which: int, trained: list[tuple[Member, dict[str, float]]]
) -> None:
    member, metrics = trained[which]
    found = evaluate([member])
    assert found and found == {name: metrics[name] for name in found}, "the same triples, bit for bit"


def test_the_loss_of_several_is_that_of_the_mean_of_their_predictions(
    trained: list[tuple[Member, dict[str, float]]],
) -> None:
    from denoise.data.images import load

    members = [member for member, _ in trained]
    cfg = members[0].cfg
    data = load(cfg.data)
    denoisers = [read(member, data).eval() for member in members]
    triples = FixedSet(data, LogNormal(cfg.data.sigma_data), cfg.trainer.val_samples)
    sigma, sd = triples.sigma.double(), cfg.data.sigma_data
    with torch.no_grad():
        noisy = triples.images + triples.sigma[:, None, None, None] * triples.noise
        mean = torch.stack([d(noisy, triples.sigma).double() for d in denoisers]).mean(dim=0)
    weight = (sigma**2 + sd**2) / (sigma * sd) ** 2
    expected = (weight * (mean - triples.images).square().flatten(1).mean(dim=1)).mean()
    found = evaluate(members)["val/loss"]
    assert found == pytest.approx(float(expected), rel=1e-5)
    assert found <= sum(metrics["val/loss"] for _, metrics in trained) / len(trained), "a square is convex"


def test_members_of_one_network_are_that_network(trained: list[tuple[Member, dict[str, float]]]) -> None:
    from denoise.data.images import load

    data = load(trained[0][0].cfg.data)
    one = read(trained[0][0], data)
    x, sigma = torch.randn(3, 1, 8, 8), torch.tensor([0.1, 1.0, 5.0])
    with torch.no_grad():
        torch.testing.assert_close(Ensemble([one, one])(x, sigma), one(x, sigma))


def test_what_is_no_ensemble_is_refused_in_one_line(trained: list[tuple[Member, dict[str, float]]]) -> None:
    first, third = trained[0][0], trained[2][0]
    other = Member(compose([*TINY, "trainer.val_samples=24"]).cfg, first.weights)
    with pytest.raises(UserError, match="differ in data"):
        evaluate([first, other])
    with pytest.raises(UserError, match="not the weights of this config") as error:
        evaluate([Member(first.cfg, third.weights)])
    assert "\n" not in str(error.value)
