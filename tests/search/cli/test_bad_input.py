"""Whatever a person may mistype: exit status 2, one line that says what is legal, and nothing written."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from denoise.config.compose import compose
from denoise.errors import UserError
from search.__main__ import main
from tests.process import PATIENCE, waits

TINY = [
    *("model.width=8", "model.embedding_dim=16", "model.num_heads=2", "data.batch_size=8"),
    *(
        "trainer.max_steps=2",
        "trainer.val_every=2",
        "trainer.val_samples=16",
        "trainer.gap_samples=16",
        "solver.steps=2",
        "solver.images=4",
    ),
]  # a wrong input that is taken all the same costs seconds and not minutes
SEARCH = [*TINY, "search.n_trials=1"]
DIT = ["model=dit", "model.dim=16", "model.depth=1", *TINY[1:]]
DOMAIN = "+search.domains.dropout="

# (verb, arguments, words that the one line must have); FILE, FOLDER and DEAD are replaced in the test
CASES: list[tuple[str, list[str], list[str]]] = [
    # verbs, flags and runs
    ("serach", [], ["serach", "'search'"]),
    ("Train", [], ["Train", "'train'"]),
    ("train", ["--foo"], ["--foo", "make help"]),
    ("train", ["-x"], ["-x", "make help"]),
    ("train", ["--run"], ["--run", "make help"]),
    ("train", ["--run", "abc"], ["RUN=abc", "train", "reproduce"]),
    ("search", ["--run", "abc"], ["RUN=abc", "search", "reproduce"]),
    ("catalog", ["--run", "abc"], ["RUN=abc", "catalog", "reproduce"]),
    ("ui", ["--run", "abc"], ["RUN=abc", "ui", "reproduce"]),
    ("best", [], ["no search", "make search"]),
    ("report", [], ["no search", "make search"]),
    ("reproduce", [], ["no search", "make search"]),
    ("sample", [], ["no search", "make search"]),
    ("best", ["--run", "abc"], ["no search", "make search"]),
    ("best", ["foo=3"], ["foo=3", "store"]),
    ("catalog", ["seed=1"], ["seed=1", "no overrides"]),
    ("ui", ["port=abc"], ["port=abc", "65535"]),
    ("ui", ["port=0"], ["port=0", "65535"]),
    ("ui", ["port=70000"], ["port=70000", "65535"]),
    ("ui", ["prot=5001"], ["prot=5001"]),
    ("train", ["--config-dir", "/no/such/folder"], ["/no/such/folder", "folder"]),
    ("train", ["--config-name", "nosuch"], ["--config-name nosuch", "legal: train"]),
    ("train", ["--config-name", "activation/relu"], ["activation/relu", "--config-dir FOLDER --config-name NAME"]),
    ("train", ["--config-name", "train.yaml"], ["train.yaml", "--config-name NAME"]),
    ("train", ["--config-name", ""], ["--config-name", "NAME"]),
    ("train", ["--config-name", "search"], ["--config-name search", "legal: train"]),
    (
        "search",
        ["--config-name", "train"],
        ["--config-name", "search does not look at it", "inspect, sites take it"],
    ),
    ("reproduce", ["--config-name", "best"], ["--config-name", "reproduce does not", "train, inspect, sites take it"]),
    ("train", ["--config-dir", ""], ["--config-dir", "no folder"]),
    ("train", ["--check"], ["--check", "train does not", "catalog takes it"]),
    ("ui", ["--cfg"], ["--cfg", "ui does not", "search, train, inspect, sites take it"]),
    # unknown options, one of each group
    ("train", ["activation=swih"], ["activation=swih", "'swish'"]),
    ("train", ["optimizer=adamww"], ["optimizer=adamww", "'adamw'"]),
    ("train", ["normalization=group"], ["normalization=group", "'group_norm'"]),
    ("train", ["weight_normalization=weight"], ["weight_normalization=weight", "weight_norm"]),
    ("train", ["initializer=kaiming"], ["initializer=kaiming", "'kaiming_normal'"]),
    ("train", ["feed_forward=swiglue"], ["feed_forward=swiglue", "'swiglu'"]),
    ("train", ["lr_schedule=cosinus"], ["lr_schedule=cosinus", "warmup_cosine"]),
    ("train", ["model=unett"], ["model=unett", "'unet'"]),
    ("train", ["data=digit"], ["data=digit", "'digits'"]),
    ("train", ["solver=hen"], ["solver=hen", "'heun'"]),
    ("train", ["trainer=gpuu"], ["trainer=gpuu", "'gpu'"]),
    ("search", ["sampler=tpee"], ["sampler=tpee", "'tpe'"]),
    ("search", ["pruner=halving"], ["pruner=halving", "successive_halving"]),
    ("search", ["search=join"], ["search=join", "'joint'"]),
    ("train", ["experiment=foo"], ["experiment=foo"]),
    ("train", ["activation@parts.residual.activation=rulu"], ["rulu", "'relu'"]),
    ("train", ["activation@parts.residuall.activation=relu"], ["residuall", "activation@parts.residual.activation"]),
    ("train", ["+activation@foo=relu", *TINY], ["activation@foo=relu"]),
    ("train", ["activation=null"], ["activation=null", "swish"]),
    ("train", ["activation="], ["activation=", "swish"]),
    ("train", ["activation=3"], ["activation=3", "swish"]),
    ("train", ["activation=[relu,gelu]"], ["activation=[relu,gelu]", "swish"]),
    # unknown keys, at each level
    ("train", ["activatoin=swish"], ["activatoin=swish", "'activation'"]),
    ("train", ["sede=1"], ["sede=1", "'seed'"]),
    ("train", ["trainer.max_step=10"], ["trainer.max_step=10", "'trainer.max_steps'"]),
    ("train", ["optimizer.lrr=0.1"], ["optimizer.lrr=0.1", "'optimizer.lr'"]),
    ("search", ["search.n_trial=3"], ["search.n_trial=3", "'search.n_trials'"]),
    ("search", ["serach.n_trials=3"], ["serach.n_trials=3", "'search.n_trials'"]),
    ("train", ["search.n_trials=3"], ["search.n_trials=3"]),
    ("train", ["optimizer=sgd", "optimizer.betas=[0.9,0.9]"], ["optimizer.betas", "sgd"]),
    ("train", ["parts.foo.dropout=0.1"], ["parts.foo.dropout=0.1", "parts."]),
    ("train", ["hydra.run.dir=elsewhere"], ["hydra.run.dir=elsewhere"]),
    ("train", ["+foo=3"], ["+foo=3", "nothing reads"]),
    ("train", ["++trainer.max_step=3"], ["++trainer.max_step=3", "trainer.max_steps"]),
    ("train", ["+activation.foo=3", *TINY], ["foo", "activation"]),
    ("train", ["+optimizer.lr=[1]", *TINY], ["+optimizer.lr=[1]", "number"]),
    ("train", ["~seed"], ["~seed", "default"]),
    ("train", ["~activation"], ["~activation", "swish"]),
    ("train", ["~trainer.max_steps"], ["~trainer.max_steps", "default"]),
    # what is no override, and sweeps
    ("train", ["hello"], ["hello", "key=value"]),
    ("train", ["activation"], ["activation", "key=value"]),
    ("train", ["a=b=c"], ["a='b=c'", "no such key"]),
    ("train", ["store={x"], ["store={x", "key=value"]),
    ("train", ["store='x"], ["store='x", "key=value"]),
    ("train", ["optimizer.lr=0.1)"], ["optimizer.lr='0.1)'", "number"]),
    ("train", ["optimizer.betas=[0.9,"], ["optimizer.betas=[0.9,", "key=value"]),
    ("train", ["activation=relu,gelu"], ["activation=relu,gelu", "the verb search"]),
    ("train", ["optimizer.lr=0.1,0.2"], ["optimizer.lr=0.1,0.2", "the verb search"]),
    ("train", ["optimizer.lr=interval(1,3)"], ["optimizer.lr=interval(1,3)", "the verb search"]),
    ("train", ["seed=${nosuch}"], ["nosuch"]),
    # types
    ("train", ["trainer.devices=2"], ["trainer.devices=2", "one device", "search.workers"]),
    ("search", ["+trainer.devices=2"], ["trainer.devices=2", "one device", "search.workers"]),
    ("train", ["trainer.max_steps=ten"], ["trainer.max_steps=ten", "whole number"]),
    ("train", ["trainer.max_steps=1.5"], ["trainer.max_steps=1.5", "whole number"]),
    ("train", ["trainer.max_steps=true"], ["trainer.max_steps=true", "whole number"]),
    ("train", ["trainer.max_steps=null"], ["trainer.max_steps=null", "whole number"]),
    ("train", ["trainer.max_steps=[1]"], ["trainer.max_steps=[1]", "whole number"]),
    ("train", ["optimizer.lr=abc"], ["optimizer.lr=abc", "number"]),
    ("train", ["optimizer.betas=0.9"], ["optimizer.betas=0.9", "[0.9,0.999]"]),
    ("train", ["optimizer.betas=[0.9]", *TINY], ["optimizer.betas=[0.9]"]),
    ("train", ["optimizer.betas=[]", *TINY], ["optimizer.betas=[]"]),
    ("train", ["optimizer.betas=[0.9,0.9,0.9]", *TINY], ["optimizer.betas=[0.9,0.9,0.9]"]),
    ("train", ["optimizer.betas=[a,b]", *TINY], ["optimizer.betas=[a,b]"]),
    ("train", ["model.channel_mult=2"], ["model.channel_mult=2", "[1,2]"]),
    ("train", ["zero_output=1"], ["zero_output=1", "true or false"]),
    ("train", ["optimizer.fused=yes"], ["optimizer.fused=yes", "true or false"]),
    ("train", ["store=3"], ["store=3", "runs"]),
    ("train", ["limits={}"], ["limits={}", "sets none", "seed=..."]),
    ("search", ["search.kinds={}"], ["search.kinds={}", "sets none", "activation=..."]),
    ("search", ["search.domains={}"], ["search.domains={}", "sets none", "+search.domains.KEY"]),
    ("train", ["store=", *TINY], ["store="]),
    ("train", ["seed=1.5"], ["seed=1.5", "whole number"]),
    ("train", ["parts.residual.dropout=abc", *TINY], ["dropout=abc"]),
    ("train", ["data=fashion_mnist", "data.root=3"], ["data.root=3"]),
    ("train", ["tracking.uri=3", *TINY], ["tracking.uri=3"]),
    ("search", ["search.storage=3", *SEARCH], ["search.storage=3"]),
    ("search", ["search.name=[a]", *SEARCH], ["search.name"]),
    ("train", ["trainer.gradient_clip=abc", *TINY], ["trainer.gradient_clip=abc", "number"]),
    ("train", ["trainer.gradient_clip=true", *TINY], ["trainer.gradient_clip", "number"]),
    ("train", ["trainer.num_threads=true", *TINY], ["trainer.num_threads", "number"]),
    # domains
    ("train", ["optimizer.lr=5"], ["optimizer.lr=5", "0.02", "optimizer.space.lr.high=5"]),
    ("train", ["optimizer.lr=1e-9"], ["optimizer.lr=1e-09", "0.0003", "optimizer.space.lr.low=1e-09"]),
    ("train", ["optimizer.lr=-1"], ["optimizer.lr=-1", "0.0003"]),
    ("train", ["optimizer.lr=nan"], ["optimizer.lr=nan", "0.0003"]),
    ("train", ["optimizer.lr=inf"], ["optimizer.lr=inf", "0.02"]),
    ("train", ["optimizer.eps=-1", *TINY], ["-1", "eps"]),
    ("train", ["activation=swish", "activation.beta=100"], ["activation.beta=100", "10.0"]),
    ("train", ["normalization.num_groups=3"], ["normalization.num_groups=3", "1, 2, 4, 8, 16, 32"]),
    ("train", ["dropout=1.5"], ["dropout=1.5", "0.99"]),
    ("train", ["dropout=nan"], ["dropout=nan", "0.99"]),
    ("train", ["placement=middle"], ["placement=middle", "pre, post, sandwich"]),
    ("train", ["lr_schedule.final=nan", *TINY], ["lr_schedule.final=nan"]),
    ("train", ["initializer=kaiming_normal", "initializer.gain=automatic"], ["automatic", "auto, torch"]),
    ("train", ["initializer=kaiming_normal", "initializer.gain=-1", *TINY], ["initializer.gain=-1"]),
    ("train", ["initializer=kaiming_normal", "initializer.gain=nan", *TINY], ["initializer.gain=nan"]),
    ("train", ["initializer=xavier_normal", "initializer.gain=torch"], ["initializer.gain=torch", "SiLU", "auto"]),
    ("train", ["denoiser.P_std=-1", *TINY], ["denoiser.P_std=-1"]),
    ("train", ["data.sigma_data=0", *TINY], ["data.sigma_data=0"]),
    ("train", ["data.sigma_data=-1", *TINY], ["data.sigma_data=-1"]),
    # the trainer
    ("train", ["trainer.ema_decay=2"], ["trainer.ema_decay=2", "0.99"]),
    ("train", ["trainer.max_steps=0"], ["trainer.max_steps=0", "1"]),
    ("train", ["trainer.max_steps=-1"], ["trainer.max_steps=-1", "whole number"]),
    ("train", ["trainer.val_every=0"], ["trainer.val_every=0", "1"]),
    ("train", ["trainer.val_samples=3"], ["trainer.val_samples=3", "4"]),
    ("train", ["trainer.diverged_at=1"], ["trainer.diverged_at=1", "number"]),
    ("train", ["trainer.save_seconds=-1"], ["trainer.save_seconds=-1", "0"]),
    ("train", ["trainer.precision=16"], ["trainer.precision=16", "32-true"]),
    ("train", ["trainer.precision=16-mixed"], ["trainer.precision=16-mixed", "bf16-mixed"]),
    ("train", ["trainer.accelerator=tpu"], ["trainer.accelerator=tpu", "cpu"]),
    ("train", ["seed=-1", *TINY], ["seed=-1"]),
    ("train", ["solver.steps=0", *TINY[:-2]], ["solver.steps=0", "whole number"]),
    ("train", ["solver.steps=-1", *TINY[:-2]], ["solver.steps=-1", "whole number"]),
    ("train", ["solver.images=0", *TINY[:-2]], ["solver.images=0", "1"]),
    ("train", ["solver.images=-1", *TINY[:-2]], ["solver.images=-1", "1"]),
    # data and model
    ("train", ["data=fashion_mnist", "data.root=/no/such/folder"], ["/no/such/folder", "dataset-fashion-mnist"]),
    ("train", ["data.image_size=9"], ["model.channel_mult", "9", "data.image_size"]),
    ("train", ["data.image_size=0"], ["data.image_size=0", "1"]),
    ("train", ["data.image_size=100000"], ["data.image_size=100000"]),
    ("train", ["data.batch_size=0"], ["data.batch_size=0", "1"]),
    ("train", ["data.batch_size=100000"], ["data.batch_size=100000", "1257"]),
    ("train", ["model=dit", "model.patch_size=3"], ["model.patch_size=3", "1, 2, 4, 8"]),
    ("train", ["model=dit", "model.patch_size=0"], ["model.patch_size=0", "1"]),
    ("train", ["model=dit", "model.dim=6"], ["model.dim=6", "multiple of 4"]),
    ("train", [*DIT, "model.dim=0"], ["model.dim=0"]),
    ("train", [*DIT, "model.dim=-4"], ["model.dim=-4"]),
    ("train", [*DIT, "model.depth=0"], ["model.depth=0"]),
    ("train", [*DIT, "model.depth=-1"], ["model.depth=-1"]),
    ("train", [*DIT, "model.num_heads=0"], ["model.num_heads=0"]),
    ("train", [*DIT, "model.embedding_dim=3"], ["model.embedding_dim=3"]),
    ("train", [*DIT, "model.feed_forward_ratio=0"], ["model.feed_forward_ratio=0"]),
    ("train", ["model=dit", "parts.residual.dropout=0.1"], ["parts.residual", "transformer, embedding"]),
    ("train", ["model.num_heads=3"], ["model.num_heads=3", "divisor"]),
    ("train", [*TINY, "model.num_heads=0"], ["model.num_heads=0"]),
    ("train", [*TINY, "model.num_heads=-2"], ["model.num_heads=-2"]),
    ("train", ["model.attention_levels=[2]"], ["model.attention_levels", "2", "0, 1"]),
    ("train", ["model.attention_levels=[a]"], ["model.attention_levels=[a]", "whole number"]),
    ("train", ["model.channel_mult=[1,2,4,8,16]"], ["model.channel_mult", "4 entries"]),
    ("train", [*TINY, "model.channel_mult=[]"], ["model.channel_mult=[]"]),
    ("train", [*TINY, "model.channel_mult=[-1,2]"], ["model.channel_mult=[-1,2]"]),
    ("train", [*TINY, "model.channel_mult=[0,2]"], ["model.channel_mult=[0,2]"]),
    ("train", [*TINY, "model.channel_mult=[1.5,2]"], ["model.channel_mult=[1.5,2]"]),
    ("train", [*TINY, "model.channel_mult=[a]", "model.attention_levels=[]"], ["model.channel_mult=[a]"]),
    ("train", [*TINY, "model.width=0"], ["model.width=0"]),
    ("train", [*TINY, "model.width=-8"], ["model.width=-8"]),
    ("train", [*TINY, "model.blocks_per_level=0"], ["model.blocks_per_level=0"]),
    ("train", [*TINY, "model.blocks_per_level=-1"], ["model.blocks_per_level=-1"]),
    ("train", [*TINY, "model.embedding_dim=0"], ["model.embedding_dim=0"]),
    ("train", [*TINY, "model.embedding_dim=1"], ["model.embedding_dim=1"]),
    ("train", [*TINY, "model.embedding_dim=-2"], ["model.embedding_dim=-2"]),
    ("train", [*TINY, "model.feed_forward_ratio=0"], ["model.feed_forward_ratio=0"]),
    ("train", [*TINY, "model.feed_forward_ratio=-1"], ["model.feed_forward_ratio=-1"]),
    ("train", [*TINY, "model.feed_forward_ratio=inf"], ["model.feed_forward_ratio=inf"]),
    # code to run
    ("train", ["activation._target_=builtins.open", *TINY], ["builtins.open", "torch."]),
    ("train", ["feed_forward=geglu", "feed_forward.gate._target_=os.system", *TINY], ["os.system", "torch."]),
    ("train", ["activation._target_=torch.nn.Nothing", *TINY], ["torch.nn.Nothing"]),
    ("train", ["activation._target_=torch.nn.Linear", *TINY], ["torch.nn.Linear"]),
    ("train", ["activation._target_=3"], ["activation._target_=3"]),
    # the stores
    ("search", ["store=FILE/sub", *SEARCH], ["FILE/sub", "store=FOLDER"]),
    ("train", ["store=FILE/sub", *TINY], ["FILE/sub", "store=FOLDER"]),
    ("ui", ["store=FILE/sub"], ["FILE/sub", "store=FOLDER"]),
    ("search", ["search.storage=nonsense://x", *SEARCH], ["nonsense://x", "postgresql://"]),
    ("search", ["search.storage=hello", *SEARCH], ["search.storage=hello", "postgresql://"]),
    ("search", ["search.storage=sqlite:///FILE/optuna.db", *SEARCH], ["FILE/optuna.db", "search.storage"]),
    ("search", ["tracking.uri=DEAD", *SEARCH], ["tracking.uri=DEAD", "start that server"]),
    ("train", ["tracking.uri=DEAD", *TINY], ["tracking.uri=DEAD", "start that server"]),
    ("best", ["tracking.uri=DEAD"], ["tracking.uri=DEAD", "start that server"]),
    ("train", ["tracking.uri=hello", *TINY], ["tracking.uri=hello"]),
    ("train", ["tracking.uri=nonsense://x", *TINY], ["tracking.uri=nonsense://x"]),
    ("train", ["tracking.uri=sqlite:///FILE/mlflow.db", *TINY], ["FILE/mlflow.db", "tracking.uri"]),
    ("train", ["tracking.experiment=", *TINY], ["tracking.experiment="]),
    # paths that the system does not take
    *((verb, ["store=~nobody.here/x"], ["store=~nobody.here/x", "no such user"]) for verb in ("best", "ui", "search")),
    ("report", [f"store={'a' * 300}"], ["store=aaa", "File name too long"]),
    ("best", ["--config-dir", "~nobody.here/x"], ["--config-dir ~nobody.here/x", "no such user"]),
    ("best", ["tracking.uri=~nobody.here/x"], ["tracking.uri=~nobody.here/x", "sqlite:///"]),
    ("train", ["data=fashion_mnist", "data.root=~nobody.here/x"], ["data.root=~nobody.here/x", "no such user"]),
    ("train", ["initializer=pretrained", "initializer.path=~nobody.here/x"], ["initializer.path=~nobody", "such user"]),
    # the search
    ("search", ["search.n_trials=0"], ["search.n_trials=0", "1"]),
    ("search", ["search.n_trials=-3"], ["search.n_trials=-3", "1"]),
    ("train", ["--worker"], ["--worker", "search.workers"]),
    ("search", ["search.workers=0"], ["search.workers=0", "1"]),
    ("search", ["search.workers=two"], ["search.workers=two", "whole number"]),
    ("search", ["search.lag=0"], ["search.lag=0", "1"]),
    ("search", ["search.n_trials=2.5"], ["search.n_trials=2.5", "whole number"]),
    ("search", ["search.mode=ablations"], ["search.mode=ablations", "joint"]),
    ("search", ["search=ablation", "search.scientific=[activaton]"], ["activaton", "'activation'"]),
    ("search", ["search=ablation", "search.nuisance=[optimizer.lrr]"], ["optimizer.lrr", "optimizer.lr"]),
    ("search", ["search=ablation", "search.per_arm=0"], ["search.per_arm=0", "1"]),
    ("search", ["search=pareto", "search.cost=time"], ["search.cost=time", "step_seconds"]),
    ("search", ["search.equal=tim"], ["search.equal=tim", "time"]),
    ("search", ["search.caps.parameters=10"], ["search.caps.parameters=10", "baseline"]),
    ("search", ["search.caps.parameters=0"], ["search.caps.parameters=0", "1"]),
    ("search", ["search.stop.seconds=-1"], ["search.stop.seconds=-1", "0.001"]),
    ("search", ["search.confirm.seeds=2"], ["search.confirm.seeds=2", "3"]),
    ("search", ["seed=1000"], ["search.confirm.first_seed=1000", "1001"]),
    ("search", ["search.kinds.activation=tunde"], ["search.kinds.activation=tunde", "tuned"]),
    ("search", ["search.transfer.to=7.5"], ["search.transfer", "7.5"]),
    ("search", ["search.kinds.activaton=[relu]"], ["search.kinds.activaton", "'search.kinds.activation'"]),
    ("search", ["search.kinds.activation=[rulu]"], ["rulu", "'relu'"]),
    ("search", ["search.kinds.activation=[]"], ["search.kinds.activation=[]", "at least one"]),
    ("search", ["search.kinds.activation=[silu,silu]"], ["search.kinds.activation", "silu", "once"]),
    ("search", ["search.kinds.activation=silu"], ["search.kinds.activation=silu", "list"]),
    ("search", ["search.kinds.activation=3"], ["search.kinds.activation=3", "list"]),
    ("search", ["search.kinds.activation=[1,2]"], ["search.kinds.activation", "1", "swish"]),
    ("search", ["search.kinds.activation=[relu,gelu]"], ["search.kinds.activation", "silu", "relu, gelu"]),
    ("search", ["initializer=zeros"], ["search.kinds.initializer", "zeros", "torch_default"]),
    ("search", ["search.kinds=[activation]"], ["search.kinds=[activation]", "activation=..."]),
    ("search", ["+search.kinds.foo=[a]"], ["foo", "activation"]),
    ("search", ["+search.kinds.model=[unet]"], ["model", "activation"]),
    ("search", ["~search.overrides"], ["~search.overrides", "every key"]),
    ("search", ["~search"], ["~search", "needs its search"]),
    ("search", ["~search.kinds.foo"], ["~search.kinds.foo", "search.kinds.activation"]),
    ("search", [f"{DOMAIN}3"], ["search.domains.dropout=3", "type: float"]),
    (
        "search",
        ["+search.domains.ruler.P_mean={type:categorical,choices:[-1.2,-3.0]}"],
        ["search.domains.ruler.P_mean", "val/loss itself depends on it"],
    ),
    (
        "search",
        ["+search.domains.model.width={type:categorical,choices:[16,32]}", "search.transfer.to=24"],
        ["search.transfer.path=model.width", "search.domains.model.width"],
    ),
    ("search", [f"{DOMAIN}{{type:flot,low:0,high:1}}"], ["search.domains.dropout", "flot", "type: float"]),
    ("search", [f"{DOMAIN}{{type:float,low:1,high:0}}"], ["search.domains.dropout", "type: float"]),
    ("search", [f"{DOMAIN}{{type:float,low:0}}"], ["search.domains.dropout", "high"]),
    ("search", [f"{DOMAIN}{{type:float,low:a,high:b}}"], ["search.domains.dropout", "type: float"]),
    ("search", [f"{DOMAIN}{{type:float,low:0.0,high:0.5,log:true}}"], ["search.domains.dropout", "low"]),
    ("search", [f"{DOMAIN}{{type:float,low:0.1,high:0.5}}"], ["dropout=0.0", "baseline"]),
    ("search", [f"{DOMAIN}{{type:float,low:0.0,high:0.5,foo:3}}", *SEARCH], ["search.domains.dropout", "foo"]),
    ("search", [f"{DOMAIN}{{type:categorical,choices:[]}}"], ["search.domains.dropout", "choices"]),
    ("search", ["+search.domains.dropuot={type:float,low:0.0,high:0.5}"], ["search.domains.dropuot", "'dropout'"]),
    ("search", ["+search.domains.optimizer.lr={type:float,low:0.1,high:0.5}"], ["optimizer.lr", "optimizer.space"]),
    ("search", ["search.domains=3"], ["search.domains=3", "+search.domains."]),
    ("search", ["optimizer.space.lr.low=1"], ["optimizer.space.lr", "1", "0.02"]),
    ("search", ["optimizer.space.lr.type=flot"], ["optimizer.space.lr", "flot"]),
    ("search", ["sampler.n_startup_trials=-1", *SEARCH], ["sampler.n_startup_trials=-1"]),
    ("search", ["+sampler.foo=3"], ["sampler", "foo"]),
    ("search", ["+pruner.foo=3", *SEARCH], ["pruner", "foo"]),
    ("search", ["pruner=successive_halving", "pruner.reduction_factor=1", *SEARCH], ["reduction_factor", "1", "2"]),
    ("search", ["pruner=successive_halving", "pruner.min_resource=0", *SEARCH], ["min_resource", "0", "1"]),
    ("search", ["search.name=a'b", *SEARCH], ["search.name"]),
    ("search", ["search.name=../../x", *SEARCH], ["search.name=../../x"]),
]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    threads = torch.get_num_threads()
    yield folder
    torch.set_num_threads(threads)


def refused(capfd: pytest.CaptureFixture[str], arguments: list[str], words: list[str]) -> str:
    """Run a verb and check that it is refused in one line, with nothing written. Gives that line."""
    try:
        status: object = main(arguments)
    except BaseException as error:
        status = f"{type(error).__name__}: {error}"
    out, err = capfd.readouterr()
    assert status == 2, f"{' '.join(arguments)}: {status} {err}"
    assert len(err.splitlines()) == 1, f"not one line: {err}"
    missing = [word for word in words if word not in err]
    assert not missing, f"{missing} not said in: {err}"
    written = sorted(str(path.relative_to(Path.cwd())) for path in Path.cwd().rglob("*"))
    assert not written, f"refused, but written: {written}"
    assert "Traceback" not in out
    return err


@pytest.mark.parametrize(
    ("verb", "arguments", "words"), CASES, ids=[" ".join([v, *(x for x in a if x not in SEARCH)]) for v, a, _ in CASES]
)
def test_bad_input_is_refused_in_one_line(
    verb: str,
    arguments: list[str],
    words: list[str],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "file"
    file.write_text("a file, no folder")
    replace = {"FILE": str(file), "DEAD": "http://127.0.0.1:1"}
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for short, long in replace.items():
        arguments = [text.replace(short, long) for text in arguments]
        words = [text.replace(short, long) for text in words]
    waited = waits(monkeypatch)
    refused(capfd, [verb, *arguments], words)
    assert sum(waited) < 30, "a refusal must not wait for somebody"


def test_no_verb_at_all(capfd: pytest.CaptureFixture[str]) -> None:
    refused(capfd, [], ["make help"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("override", ["trainer.accelerator=gpu", "trainer=gpu"])
def test_a_gpu_that_is_not_there(override: str, capfd: pytest.CaptureFixture[str]) -> None:
    refused(capfd, ["train", override, *TINY], ["trainer.accelerator=gpu", "cpu"])


def test_a_password_in_a_storage_url_is_not_repeated(capfd: pytest.CaptureFixture[str]) -> None:
    url = "postgresql://me:hunter2@127.0.0.1:1/base"
    assert "hunter2" not in refused(capfd, ["search", f"search.storage={url}", *SEARCH], ["search.storage"])


@pytest.mark.parametrize("uri", ["postgresql://me:hunter2@127.0.0.1:1/base", "mysql://me:hunter2@127.0.0.1:1/base"])
def test_a_tracker_whose_driver_is_missing(uri: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert "hunter2" not in refused(capfd, ["train", f"tracking.uri={uri}", *TINY], ["tracking.uri"])


OPTION_FILES = {
    "broken YAML": ("x: [1\n", ["mine.yaml"]),
    "not UTF-8": ("\udcff\udcfe", ["mine.yaml"]),
    "empty": ("", ["mine", "_target_"]),
    "a list": ("- 1\n- 2\n", ["mine"]),
    "no target": ("# f\n# s\nspace: {}\n", ["mine", "_target_"]),
    "a target that is not there": ("# f\n# s\n_target_: torch.nn.Nothing\nspace: {}\n", ["torch.nn.Nothing"]),
    "a target that is not trusted": ("# f\n# s\n_target_: os.system\nspace: {}\n", ["os.system", "torch.", "allow="]),
    "a target that a trusted module imports": ("# f\n# s\n_target_: torch.os.system\nspace: {}\n", ["torch.os.system"]),
    "a target that runs what it reads": (
        "# f\n# s\n_target_: torch.hub.load\nspace: {}\n",
        ["torch.hub.load", "allow="],
    ),
    "a target within that a trusted module imports": (
        "# f\n# s\n_target_: torch.nn.Softplus\nbeta: {_target_: torch.os.getpid}\nspace: {}\n",
        ["torch.os.getpid"],
    ),
    "a package line": ("# f\n# s\n# @package foo\n_target_: torch.nn.ReLU\nspace: {}\n", ["@package foo", "leave"]),
    "no value": ("# f\n# s\n_target_: torch.nn.Softplus\nbeta: ???\nspace: {}\n", ["beta: ???", "needs: [beta]"]),
    "a parameter the target lacks": ("# f\n# s\n_target_: torch.nn.ReLU\nfoo: 1\nspace: {}\n", ["foo"]),
    "a space that is a number": ("# f\n# s\n_target_: torch.nn.PReLU\ninit: 0.1\nspace: 3\n", ["space"]),
    "a domain of no type": (
        "# f\n# s\n_target_: torch.nn.PReLU\ninit: 0.1\nspace:\n  init: {type: flot, low: 0, high: 1}\n",
        ["space.init", "type"],
    ),
    "a domain upside down": (
        "# f\n# s\n_target_: torch.nn.PReLU\ninit: 1.5\nspace:\n  init: {type: float, low: 2, high: 1}\n",
        ["init", "2", "1"],
    ),
    "a key that is a number": ("# f\n# s\n_target_: torch.nn.ReLU\n3: 4\nspace: {}\n", ["mine.yaml", "the key 3"]),
    "a value by a tag": (
        "# f\n# s\n_target_: torch.nn.Softplus\nbeta: !!binary aGVsbG8=\nspace: {}\n",
        ["mine.yaml", "bytes", "legal"],
    ),
    "too long": (f"# f\n# s\n_target_: torch.nn.Softplus\nbeta: [{'1,' * 200_000}]\nspace: {{}}\n", ["mine", "legal"]),
    "control that is a word": ("# f\n# s\n_target_: torch.nn.ReLU\ncontrol: maybe\n", ["control: maybe", "true"]),
    "needs that is a number": ("# f\n# s\n_target_: torch.nn.ReLU\nneeds: 3\n", ["needs", "list"]),
    "expects that is a list": ("# f\n# s\n_target_: torch.nn.ReLU\nexpects: [1]\n", ["expects", "map"]),
    "words that are a word": ("# f\n# s\n_target_: torch.nn.PReLU\ninit: 0.1\nwords: {init: auto}\n", ["words.init"]),
    "limits that are a number": ("# f\n# s\n_target_: torch.nn.PReLU\ninit: 0.1\nlimits: {init: 3}\n", ["limits.init"]),
    "limits without an end": ("# f\n# s\n_target_: torch.nn.PReLU\ninit: 0.1\nlimits: {init: [3]}\n", ["limits.init"]),
    "limits that are words": (
        "# f\n# s\n_target_: torch.nn.PReLU\ninit: 0.1\nlimits: {init: [a, b]}\n",
        ["limits.init", "[low, high]"],
    ),
    "a domain of a parameter it lacks": (
        "# f\n# s\n_target_: torch.nn.PReLU\ninit: 0.1\nspace:\n  inti: {type: float, low: 0, high: 1}\n",
        ["inti"],
    ),
}


UNREADABLE = ("broken YAML", "not UTF-8", "empty", "a list", "no target", "a space that is a number")


@pytest.mark.parametrize(
    ("name", "verb"),
    [(name, verb) for name in OPTION_FILES for verb in ("train", "search")]
    + [(name, "catalog") for name in UNREADABLE],
)
def test_an_option_file_that_is_wrong(name: str, verb: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Chosen or searched it is refused before anything is written; one that cannot be read, when it is listed too."""
    content, words = OPTION_FILES[name]
    folder = tmp_path / "conf" / "activation"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_bytes(content.encode(errors="surrogateescape"))
    arguments = [verb, "--config-dir", str(tmp_path / "conf")]
    if verb == "train":
        arguments += ["activation=mine", *TINY]
    if verb == "search":
        arguments += ["search.kinds.activation=[silu,mine]", *SEARCH]
    refused(capfd, arguments, words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "activation=swih"], ["activation=swih", "'swish'"]),
        (["serach"], ["serach", "'search'"]),
        (["best"], ["no search"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_the_process_ends_with_2_and_one_line(arguments: list[str], words: list[str], place: Path) -> None:
    root = Path(__file__).parents[3]
    path = os.pathsep.join([str(root / "src"), str(root)])
    done = subprocess.run(
        [sys.executable, "-m", "search", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=place,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1 and "Traceback" not in done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert done.stdout == "" and not list(place.iterdir())


KEYS = [
    *("activation", "optimizer", "optimizer.lr", "optimizer.betas", "optimizer.betas.0", "optimizer._target_"),
    *("model", "model.width", "model.channel_mult", "parts", "parts.residual", "parts.residual.activation", "seed"),
    *("trainer", "trainer.max_steps", "trainer.gradient_clip", "tracking", "tracking.uri", "store", "allow", "solver"),
    *("dropout", "search", "search.kinds", "search.kinds.activation", "search.domains", "sampler", "experiment"),
    *("optimizer.space", "optimizer.space.lr", "optimizer.space.lr.low", "hydra", "data", "data.root", "a", ".", "a.b"),
    *("activation@parts.residual.activation", "activation@a", "@", "activation@", "model.", ".model", "model..width"),
]
ODD = [
    *("", "null", "true", "0", "-1", "1.5", "1e400", "nan", "-inf", "[]", "{}", "[1]", "{a:1}", "[[]]", "relu", "a,b"),
    *(
        "${seed}",
        "${nosuch}",
        "${oc.env:HOME}",
        "${",
        "'",
        '"',
        "\\",
        "'a b'",
        "a b",
        "[1,",
        "{a:",
        "é",
        "\n",
        "a=b",
        "~",
    ),
    *("1_000", "0x10", "999999999999999999999", "glob(*)", "int(3)", "range(3)", "???", "${.lr}", "[null]", "$(ls)"),
]
overrides = st.builds(
    lambda sign, key, equals, value: f"{sign}{key}{equals}{value}",
    st.sampled_from(["", "", "", "", "+", "++", "~"]),
    st.sampled_from(KEYS) | st.text(max_size=8),
    st.sampled_from(["=", "=", "=", "", "==", ":="]),
    st.sampled_from(ODD) | st.text(max_size=8),
)


@settings(
    max_examples=100,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example(given_overrides=["experiment=null"], root="train")
@example(given_overrides=["+experiment=null"], root="search")
@example(given_overrides=["+activation@parts.residual.activation=null"], root="search")
@example(given_overrides=["+optimizer.lr=[[]]"], root="train")
@example(given_overrides=["+optimizer.lr={}"], root="train")
@given(given_overrides=st.lists(overrides, min_size=1, max_size=2), root=st.sampled_from(["train", "search"]))
def test_anything_typed_is_a_config_or_a_refusal_of_one_line(given_overrides: list[str], root: str) -> None:
    try:
        compose(given_overrides, root)
    except UserError as refusal:
        assert str(refusal).strip()
    except Exception as error:
        raise AssertionError(f"{root} {given_overrides}: {type(error).__name__}: {error}") from error
