"""A LightningModule hosted untouched: its loss and batches under keyed seeds, what is put in it, what is refused."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

import denoise
from denoise.config import trust
from denoise.config.compose import compose
from denoise.errors import UserError
from denoise.evaluation import reach
from denoise.training import train
from denoise.training.diagnostics import limit
from denoise.training.hosted import reading
from denoise.training.hosted.keyed import KeyedLoader, digest
from search.__main__ import main
from search.report import leaderboard
from search.study import spec
from search.trial import equal_time
from search.trial.config_hash import config_sha256
from tests.denoise.foreign import lit
from tests.denoise.test_randomness import Killed, Witness

HERE = "tests.denoise.foreign.lit"
SHORT = (
    *("trainer.num_threads=1", "trainer.accelerator=cpu", "trainer.max_steps=6", "trainer.val_every=2"),
    *("trainer.val_samples=8", "trainer.gap_samples=8", "trainer.log_every=1", "trainer.health_every=2"),
)


@pytest.fixture(autouse=True)
def trusted() -> None:
    trust.allow([f"{HERE}."])


def typed(*more: str, module: str = "Lit", data: str = "loaders") -> list[str]:
    given = ["model=lightning", f"model._target_={HERE}.{module}", *SHORT]
    return [*given, *([f"model.data={HERE}.{data}"] if data else []), *more]


def config(*more: str, **given: str) -> Any:
    return compose(typed(*more, **given)).cfg


def names(result: train.Result) -> tuple[str, float]:
    return result.weights_sha256, result.metrics["val/loss"]


def test_the_same_twice_silu_for_silu_is_the_same_and_other_choices_are_others() -> None:
    first, again, silu, relu, lion = (
        names(train.train(config(*more)))
        for more in ([], [], ["activation=silu"], ["activation=relu"], ["optimizer=lion"])
    )
    assert first == again == silu
    assert len({first, relu, lion}) == 3


@pytest.mark.parametrize("optimizer", ["adamw", "schedule_free_adamw"])
def test_interrupted_and_resumed_is_the_whole(optimizer: str, tmp_path: Path) -> None:
    cfg = config("trainer.save_seconds=0", f"optimizer={optimizer}", "activation=gelu_stochastic", data="drawn")
    told = train.train(cfg, whole := Witness())
    with pytest.raises(Killed):
        train.train(cfg, before := Witness(killed_at=5), tmp_path / "state.ckpt")
    assert before.saved
    after = Witness()
    assert names(train.train(cfg, after, tmp_path / "state.ckpt")) == names(told)
    assert min(step for step, _ in after.met) > 0
    assert all(whole.met[at] == value for at, value in after.met.items() if at[0])


def test_the_baseline_is_the_module_untouched_and_what_is_frozen_stays() -> None:
    torch.manual_seed(7)
    module = train.prepare(config())
    net = module.host.net
    kinds = "Lit Net Conv2d GroupNorm Linear Conv2d Dropout Sequential Conv2d SiLU".split()
    assert [type(each).__name__ for each in net.modules()] == kinds
    again = train.prepare(config()).host.net
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))
    result = train.train(config("activation=relu", "initializer=orthogonal", "weight_normalization=weight_norm"))
    for name in ("encoder.0.weight", "encoder.0.bias", "scale"):
        assert torch.equal(result.weights[name], net.state_dict()[name])
    assert result.sites.count(": reached") == 2 and "SiLU at encoder.1" in result.sites
    assert "left: stands in a frozen module" in result.sites and not result.samples
    assert {name for name in result.metrics if "band" in name or "flops" in name} == set()


def test_sites_of_the_step_itself() -> None:
    found = {site.what: site.why for site in reach.sites(config(module="Itself", data=""))}
    assert found == {"SiLU": "", "F.gelu": "", "F.silu": "called in the step itself, outside a module of its own"}
    result = train.train(config("activation=relu", module="Itself", data=""))
    assert result.outcome == "complete" and result.sites.count(": reached") == 2
    assert {
        name
        for name, p in train.prepare(config(module="Itself", data="")).host.net.named_parameters()
        if p.requires_grad
    } == {
        "line.weight",
        "line.bias",
    }


@settings(max_examples=25)
@given(st.integers(1, 60), st.integers(1, 9), st.booleans(), st.integers(0, 3))
def test_an_epoch_has_each_example_once_in_an_order_of_the_seed(count: int, size: int, drop: bool, seed: int) -> None:
    if count < size and drop:
        return
    examples = TensorDataset(torch.arange(count))
    read = KeyedLoader(DataLoader(examples, size, shuffle=True, drop_last=drop), "train")
    torch.manual_seed(seed)  # which nothing here draws from
    epochs = [
        [read.at(seed, step)[0] for step in range(epoch * read.count, (epoch + 1) * read.count)] for epoch in (0, 1)
    ]
    for batches in epochs:
        whole = torch.cat(batches)
        assert len(whole) == (count // size * size if drop else count) == len(whole.unique())
        assert all(len(batch) == size for batch in batches[: count // size])
    last = KeyedLoader(DataLoader(examples, size, shuffle=True, drop_last=drop), "train").at(seed, 2 * read.count - 1)[
        0
    ]
    assert torch.equal(last, epochs[1][-1]), "a step is found without those before it"
    assert sorted(i for batch in read.fixed() for i in batch) == list(range(count))
    assert max(map(len, read.fixed())) - min(map(len, read.fixed())) <= 1


def test_batches_are_those_of_the_loader_s_sampler_and_of_the_seed() -> None:
    examples = lit.images(50)
    weighted = WeightedRandomSampler([0.0] * 40 + [1.0] * 10, 50)
    read = KeyedLoader(DataLoader(examples, 10, sampler=weighted), "train")
    seen = torch.cat([read.at(0, step)[1] for step in range(read.count)])
    assert seen.min() >= 40 and len(seen) == 50
    orders = [KeyedLoader(lit.train_alone(), "train").order(seed, epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert orders[0] != orders[1] != orders[2] != orders[0], "a generator of the loader's is keyed too"
    assert KeyedLoader(DataLoader(examples, 10), "train").order(3, 2)[0] == list(range(10))
    made = KeyedLoader(lit.bucketed()[0], "train")
    assert all(b == a + 1 and a % 2 == 0 for a, b in made.order(4, 0)) and made.count == 6


def test_what_a_dataset_draws_is_of_the_seed_and_the_step() -> None:
    splits = reading.read(config(data="drawn"))
    drawn = [digest(splits.train.at(seed, step)) for seed, step in ((0, 0), (0, 0), (0, 4), (1, 0))]
    assert drawn[0] == drawn[1] and len(set(drawn)) == 3
    assert splits.sha256 == reading.divide(lit.drawn()).sha256 != reading.divide(lit.loaders()).sha256


@pytest.mark.parametrize(
    ("data", "counts", "said"),
    [
        ("loaders", (40, 11, 11), 1),
        ("train_alone", (32, 4, 4), 2),
        ("with_test", (40, 22, 12), 0),
        ("Module", (40, 22, 12), 0),
        ("bucketed", (12, 4, 4), 1),
    ],
)
def test_which_examples_are_for_what(data: str, counts: tuple[int, ...], said: int) -> None:
    splits = reading.read(config(data=data))
    assert tuple(splits.count(split) for split in reading.SPLITS) == counts
    held = [{i for batch in splits.fixed[split][1] for i in batch} for split in reading.SPLITS]
    assert held[1].isdisjoint(held[2]) or data in ("with_test", "Module")
    assert data != "train_alone" or held[0].isdisjoint(held[1] | held[2])
    assert len(splits.notes) == 1 + said


def test_the_objective_is_its_loss_on_held_out_batches_by_hand() -> None:
    """(0.25 - mean of a batch)^2 in float64, the mean over the batches; test/loss on what is kept aside."""
    more = ["trainer.diverged_at=1e9", "optimizer=sgd"]
    cfg = config("trainer.val_samples=64", "trainer.test_samples=16", *more, module="Mean")
    result, (loader, batches) = train.train(cfg), reading.read(cfg).fixed["validation"]
    weight = float(result.weights["weight"])
    means = [loader.dataset.tensors[0][batch].double().mean().item() for batch in batches]
    cases = [(weight - means[case % len(means)]) ** 2 for case in range(16)]
    assert result.metrics["val/loss"] == pytest.approx(sum(cases) / 16, rel=1e-5)
    assert result.tested["image"].tolist() == [0, 1, 2, 3] and result.tested["losses"].dtype == torch.float64
    assert result.metrics["test/loss"] == pytest.approx(result.tested["losses"].mean().item(), rel=1e-12)


def test_what_it_logs_can_be_the_objective() -> None:
    cfg = config("model.objective=val/far", "optimizer=sgd", module="Mean")
    result, (loader, batches) = train.train(cfg), reading.read(cfg).fixed["validation"]
    weight = float(result.weights["weight"])
    far = [abs(weight - loader.dataset.tensors[0][batch].double().max().item()) for batch in batches[:2]]
    assert result.metrics["val/loss"] == pytest.approx(sum(far) / 2, rel=1e-5)


def test_a_data_module_moves_its_batches_itself() -> None:
    plain, doubled = (
        train.prepare(config(module="Mean", data=data)).loss_at(0)().item() for data in ("with_test", "Module")
    )
    assert doubled == pytest.approx(4 * plain, rel=1e-6)


def test_a_loss_below_zero_is_no_divergence() -> None:
    result = train.train(config("model.kwargs={below:2.0}", "trainer.diverged_at=1.5", module="Mean"))
    assert result.outcome == "complete" and result.metrics["val/loss"] < -1
    assert (limit(2, 10), limit(-2, 10), limit(0, 10)) == (20, 16, float("inf"))


def test_its_pace_is_measured_for_trials_of_equal_time() -> None:
    measured = equal_time.pace(typed())
    assert measured is not None and measured > 0


def test_a_batch_size_of_the_config_acts() -> None:
    assert [train.prepare(config(*more)).batch_size for more in ([], ["data.batch_size=5"])] == [8, 5]


def test_second_stages_of_initializers(tmp_path: Path) -> None:
    module = train.prepare(config("initializer=lsuv"))
    assert "layers have an output variance of 1 on the first batch" in module.start[0].summary
    torch.save(weights := {name: value + 1 for name, value in module.weights().items()}, tmp_path / "its.pt")
    again = train.prepare(config("initializer=pretrained", f"initializer.path={tmp_path / 'its.pt'}"))
    taken = again.weights()
    assert all(torch.equal(taken[name], weights[name]) for name in again.start[0].taken)
    assert {"net.first.weight", "net.norm.bias"} <= {*again.start[0].taken}


@pytest.mark.parametrize(
    ("more", "given", "message"),
    [
        ([], {"module": "Manual"}, "automatic_optimization=False"),
        ([], {"module": "Several"}, "has 2 optimizers"),
        ([], {"module": "Stepless"}, "Stepless has no training_step"),
        ([], {"module": "Net", "data": "loaders"}, "missing 1 required positional argument: 'width'"),
        (["model.kwargs={width:4}"], {"module": "Net"}, "is a Net; model=lightning wants a LightningModule"),
        (["model.kwargs={wdith:4}"], {}, "unexpected keyword argument 'wdith'"),
        ([], {"data": ""}, "Lit has no train_dataloader, so it needs a data module"),
        (["model._target_=os.system"], {}, "_target_ os.system is not trusted"),
        (["model.data=os.getcwd"], {}, "model.data=os.getcwd: _target_ os.getcwd is not trusted"),
        (["optimizer=sophia"], {}, "asks for the curvature"),
        (["denoiser=epsilon"], {}, "denoiser: does not act on model=lightning"),
        (["denoiser=edm"], {}, "denoiser: does not act"),
        (["ruler=edm"], {}, "ruler: does not act"),
        (["solver=heun"], {}, "solver: does not act"),
        (["data=digits"], {}, "data: does not act"),
        (["data.sigma_data=0.5"], {}, "data.sigma_data=0.5: no denoiser"),
        (["dropout=0.1"], {}, "dropout=0.1: a model of your own has its own dropout"),
        (["trainer.accumulate=2"], {}, "trainer.accumulate=2"),
        (["trainer.compile=true"], {}, "trainer.compile=true"),
        (["parts.transformer.dropout=0.1"], {}, "parts.transformer"),
        (["model.objective=val/fid"], {}, "never logs it; it logs val/loss, val/mean; legal"),
        (["model.objective=val/mean"], {}, "is the same whatever is trained"),
        (["model.objective=val/average"], {"module": "Averaged"}, "an average of the module's own"),
        (["model.objective=val/loss"], {"module": "Stepless"}, "has no training_step"),
        ([], {"data": "stream"}, "has a Stream, which cannot be read by number"),
        ([], {"data": "unbatched"}, "batch_size=None"),
        ([], {"data": "nothing"}, "has no batch"),
        ([], {"data": "four"}, "returned 4 things; legal: a train DataLoader"),
        ([], {"data": "number"}, "is a int; it must be one torch.utils.data.DataLoader"),
        ([], {"data": "broken"}, "FileNotFoundError: photos are gone"),
        ([], {"data": "own_generator"}, "its dataset gives other numbers each time"),
        ([], {"data": "bucketed_alone"}, "a part of them held back for validation is not possible"),
        (["data.batch_size=4"], {"data": "bucketed"}, "data.batch_size=4 is not possible"),
        *(
            ([f"model.kwargs={{answer:{answer}}}"], {"module": "Answers"}, message)
            for answer, message in {
                "none": "training_step returned None; return the loss",
                "empty": "returned no loss",
                "word": "returned str",
                "rows": "returned a tensor of 3",
                "infinite": "returned a loss of inf",
                "detached": "without a gradient",
                "own": "is another each time",
                "graph": "training_step without gradients: RuntimeError",
            }.items()
        ),
    ],
)
def test_what_cannot_be_hosted_is_refused_in_one_line(more: list[str], given: dict[str, str], message: str) -> None:
    with pytest.raises(UserError) as refused:
        train.prepare(config(*more, **given))
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_a_refusal_is_status_2_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [f"allow=[{HERE}]", f"store={tmp_path / 'runs'}"]
    assert main(["train", *given, *typed(module="Manual")]) == 2
    assert main(["search", *given, *typed("search.scientific=[denoiser]", "search=ablation")]) == 2
    assert main(["inspect", *given, *typed()]) == 2 and not (tmp_path / "runs").exists()
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 3 and "automatic_optimization=False" in said[0] and "denoiser" in said[1]


@pytest.mark.parametrize(
    ("group", "option"), [("denoiser", "as_built"), ("ruler", "as_built"), ("solver", "as_built"), ("data", "own")]
)
def test_what_only_a_lightning_module_has_is_refused_for_our_own(group: str, option: str) -> None:
    with pytest.raises(UserError, match="model=lightning|Interpolation"):
        train.prepare(compose([f"{group}={option}"]).cfg)


def test_a_search_of_it_draws_what_acts(tmp_path: Path) -> None:
    """No optimizer that asks for a curvature, no denoiser; what its code is names it."""
    own = [f"store={tmp_path / 'runs'}", f"allow=[{HERE}]", "search.confirm.finalists=0", "tracking.graph=true"]
    search = spec.prepare([*typed(), *own])
    assert any(note.startswith("note: tracking.graph: a LightningModule is not registered") for note in search.notes)
    assert "sophia" not in search.space.options["optimizer"] and "adamw" in search.space.options["optimizer"]
    assert search.space.options["activation"][0] == "as_built" and "feed_forward" not in search.space.options
    assert search.name.startswith("own-lightning-joint-") and "denoiser" not in search.space.options
    assert search.notes[0].startswith("data: 40 training examples in 5 batches of 8; 11 validation in batches of 4")
    assert any("note: Lit: not run: its optimizer" in note and "on_train_batch_end" in note for note in search.notes)
    other = compose(typed(data="with_test"))
    assert config_sha256(other) != config_sha256(compose(typed()))


def test_a_training_is_reproduced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [f"allow=[{HERE}]", f"store={tmp_path / 'runs'}"]
    assert main(["train", *given, *typed("activation=relu")]) == 0
    run = re.findall(r"^run (\w{32})$", said := capsys.readouterr().out, re.MULTILINE)[0]
    assert "make reproduce" in said and "make sample" not in said
    assert main(["reproduce", *given, "--run", run]) == 0
    assert "Reproduced, bit for bit." in capsys.readouterr().out


def test_what_was_found_is_done_to_it_in_a_script(tmp_path: Path) -> None:
    more = ["activation=prelu", "normalization=rms_norm", "initializer=orthogonal"]
    best, model = tmp_path / "best.yaml", reading.built({"_target_": f"{HERE}.Lit"}, 0)
    best.write_bytes(leaderboard.best_yaml(typed(*more), "found", "0" * 32))
    with pytest.raises(UserError, match="batch="):
        denoise.apply(model, best)
    done = denoise.apply(model, best, batch=next(iter(lit.loaders()[1])))
    assert model.logger is None and type(model).__name__ == "Lit" and model.current_epoch == 0
    weights = train.prepare(config(*more)).weights()
    assert len(done.put) == 3 and weights.keys() == model.state_dict().keys()
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())


def test_a_copy_shares_the_data_and_not_the_weights() -> None:
    module = train.prepare(config("activation=relu"))
    copied = copy.deepcopy(module)
    assert copied.splits is module.splits
    copied.setup("fit")
    with torch.no_grad():
        for parameter in copied.host.parameters():
            parameter.zero_()
    assert copied.loss_at(0)() != module.loss_at(0)()


def test_parts_of_its_own_by_patterns_of_module_paths(tmp_path: Path) -> None:
    """What is chosen for a part acts there alone, in training and in a script; a pattern of nothing is refused."""
    more = ["model.parts={told:net.time,norms:net.norm}", "normalization@parts.norms.normalization=rms_norm"]
    more += ["initializer@parts.told.initializer=constant", "parts.told.initializer.value=0.5"]
    chosen, plain = train.prepare(config(*more)), train.prepare(config())
    assert "net.norm" in chosen.host.listing and chosen.host.part_names[-2:] == ("told", "norms")
    assert type(chosen.host.net.net.norm) is not type(plain.host.net.net.norm)
    weights = chosen.weights()
    assert weights["net.time.weight"].eq(0.5).all()
    rest = {n: w for n, w in plain.weights().items() if not n.startswith(("net.time", "net.norm"))}
    assert all(torch.equal(weights[name], value) for name, value in rest.items())
    best, model = tmp_path / "best.yaml", reading.built({"_target_": f"{HERE}.Lit"}, 0)
    best.write_bytes(leaderboard.best_yaml(typed(*more), "found", "0" * 32))
    denoise.apply(model, best, batch=next(iter(lit.loaders()[1])))
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    with pytest.raises(UserError, match="matches no site's path"):
        train.prepare(config("model.parts={mid:mid.*}"))
