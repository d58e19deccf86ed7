"""Files of one's own: a key that nothing reads is refused whatever file it is in, and so is a file that lacks some."""

import hashlib
import re
from pathlib import Path

import pytest

from denoise.config import catalog
from denoise.config.compose import compose
from denoise.config.legal import select
from denoise.errors import UserError
from denoise.training.train import prepare
from search.space.search_config import read

pytestmark = pytest.mark.filterwarnings("ignore")
ROOT = "defaults: [train, _self_]\n"
SEARCH = "defaults: [settings, _self_]\nmode: joint\n"
TRAINER = "defaults: [default, _self_]\n"
SOFTPLUS = "# f\n# s\n_target_: torch.nn.Softplus\nbeta: {beta}\nspace: {{}}\n"
GLOBAL = "# @package _global_\n"
UNET = "# f\n# s\n_target_: denoise.model.unet.UNet\nwidth: 8\nchannel_mult: [1, 2]\nblocks_per_level: 1\n"
UNET += "attention_levels: [1]\nnum_heads: 2\nfeed_forward_ratio: 2.0\nembedding_dim: 16\n"
DATA = "# f\n# s\n_target_: denoise.data.digits.digits\nimage_size: 8\nsigma_data: 0.75\n"


def written(folder: Path, file: str, content: str) -> tuple[list[str], str]:
    """Write a file into a folder of one's own, under a name of its own: what chooses it, and the root config."""
    group, _, option = file.rpartition("/")
    option += hashlib.sha256(content.encode()).hexdigest()[:6]
    path = folder / "conf" / group / f"{option}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    catalog.add_folder(folder)
    if not group:
        return [], option
    return [f"{group}={option}"], "search" if group in ("search", "sampler") else "train"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all, so that the project's own config is composed once beside it."""
    return tmp_path_factory.mktemp("own")


WRONG: list[tuple[str, str, list[str]]] = [  # file, content, words of the line
    ("mine", ROOT + "dropot: 0.3\n", ["dropot=0.3", "'dropout'"]),
    ("mine", ROOT + "trainer: {gradient_clp: 1.0}\n", ["trainer.gradient_clp=1.0", "'trainer.gradient_clip'"]),
    ("mine", ROOT + "parts: {residual: {dropot: 0.3}}\n", ["parts.residual.dropot", "parts.residual.dropout"]),
    ("mine", ROOT + "parts: {resdual: {dropout: 0.3}}\n", ["parts.resdual", "'parts.residual'"]),
    ("mine", ROOT + "trainer: {devices: 2}\n", ["trainer.devices=2", "one device", "search.workers"]),
    ("mine", ROOT + "tracking: {url: x}\n", ["tracking.url=x", "'tracking.uri'"]),
    ("mine", ROOT + "optimizer: {lrr: 0.1}\n", ["lrr"]),
    ("mine", ROOT + "activation: {bta: 0.1}\n", ["bta"]),
    ("mine", ROOT + "model: {wdth: 8}\n", ["wdth"]),
    ("mine", ROOT + "data: {btch_size: 8}\n", ["btch_size"]),
    ("mine", ROOT + "denoiser: {P_men: 8}\n", ["P_men"]),
    ("mine", ROOT + "limits: {dropot: [0.0, 0.5]}\n", ["limits names dropot", "'dropout'"]),
    ("mine", ROOT + "search: {n_trials: 3}\n", ["search", "no such key"]),
    ("mine", "dropout: 0.3\n", ["lacks", "defaults: [train, _self_]"]),
    ("trainer/mine", TRAINER + "valevery: 3\n", ["trainer=mine", "trainer.valevery=3", "'trainer.val_every'"]),
    ("trainer/mine", TRAINER + "limits: {valevery: [1, 2]}\n", ["limits names valevery", "'val_every'"]),
    ("trainer/mine", "max_steps: 3\n", ["trainer=mine", "lacks trainer.", "defaults: [default, _self_]"]),
    ("experiment/mine", GLOBAL + "trainer: {max_step: 7}\n", ["experiment=mine", "trainer.max_step=7", "max_steps"]),
    ("experiment/mine", GLOBAL + "sede: 7\n", ["experiment=mine", "sede=7", "'seed'"]),
    ("experiment/mine", "trainer: {max_steps: 7}\n", ["experiment=mine", "# @package _global_"]),
    ("tracking/mine", "uri: null\n", ["tracking=mine", "lacks tracking.experiment", "defaults: [mlflow, _self_]"]),
    ("search/mine", SEARCH + "n_trial: 3\n", ["search=mine", "search.n_trial=3", "'search.n_trials'"]),
    ("search/mine", SEARCH + "confirm: {finalist: 3}\n", ["search.confirm.finalist=3", "'search.confirm.finalists'"]),
    ("search/mine", SEARCH + "caps: {params: 3}\n", ["search.caps.params=3", "search.caps.parameters"]),
    ("search/mine", SEARCH + "limits: {n_trial: [1, 3]}\n", ["limits names n_trial", "'n_trials'"]),
    ("search/mine", "n_trials: 3\n", ["search=mine", "lacks search.mode", "defaults: [settings, _self_]"]),
    ("model/mine", UNET, ["model=mine", "lacks class_conditional", "class_conditional: False"]),
    ("model/mine", UNET + "class_conditional: false\nwdth: 8\n", ["wdth"]),
    ("model/mine", UNET + "class_conditional: false\nlimits: {wdth: [1, 2]}\n", ["limits names wdth", "'width'"]),
    ("data/mine", DATA, ["data=mine", "lacks batch_size", "batch_size: 64"]),
    ("data/mine", DATA + "batch_size: 8\nbtch: 3\n", ["btch"]),
    ("solver/mine", "_target_: denoise.model.solver.heun\nsteps: 4\n", ["solver=mine", "lacks images", "images: 16"]),
    ("mine", ROOT + "store: 3\n", ["store=3", "a word"]),
    ("mine", ROOT + "zero_output: maybe\n", ["zero_output=maybe", "true or false"]),
    ("mine", ROOT + "dropout: [0.1]\n", ["dropout=[0.1]", "a number"]),
    ("mine", ROOT + "allow: os.\n", ["allow=os.", "a list"]),
    ("mine", ROOT + "trainer: 3\n", ["trainer=3", "override /trainer: NAME"]),
    ("mine", ROOT + "trainer: {deterministic: maybe}\n", ["trainer.deterministic=maybe", "true or false"]),
    ("mine", ROOT + "trainer: {max_steps: null}\n", ["trainer.max_steps=null", "a whole number"]),
    ("mine", ROOT + "activation: 3\n", ["activation=3", "override /activation: NAME"]),
    ("mine", ROOT + "parts: {residual: {activation: 3}}\n", ["parts.residual.activation=3", "NAME"]),
    ("mine", ROOT + "limits: 3\n", ["limits=3", "must map"]),
    ("mine", ROOT + "optimizer: {space: 3}\n", ["optimizer.space=3", "must map"]),
    ("mine", ROOT + "optimizer: {space: {lr: 3}}\n", ["optimizer.space.lr=3", "type: float"]),
    ("mine", ROOT + "optimizer: {words: 3}\n", ["optimizer.words=3", "must map"]),
    ("search/mine", SEARCH + "kinds: 3\n", ["search.kinds=3", "activation=..."]),
    ("search/mine", SEARCH + "domains: 3\n", ["search.domains=3"]),
    ("search/mine", SEARCH + "overrides: 3\n", ["search.overrides=3", "a list"]),
    ("search/mine", SEARCH + "screen: maybe\n", ["search.screen=maybe", "true or false"]),
    ("search/mine", SEARCH + "enqueue: lion\n", ["search.enqueue=lion", "a list"]),
    ("activation/mine", SOFTPLUS.format(beta="???"), ["beta", "???", "null"]),
    ("activation/mine", SOFTPLUS.format(beta="1.0").replace(": 1.0", ":\t1.0"), ["activation/mine", "'\\t'"]),
    ("trainer/mine", TRAINER + "limits: {max_steps: 3}\n", ["trainer.limits.max_steps=3", "[low, high]"]),
]


@pytest.mark.parametrize(("file", "content", "words"), WRONG, ids=[f"{file} {words[0]}" for file, _, words in WRONG])
def test_a_key_that_nothing_reads_is_refused_whatever_file_it_is_in(
    file: str, content: str, words: list[str], folder: Path
) -> None:
    overrides, root = written(folder, file, content)
    with pytest.raises(UserError) as refused:
        composed = compose(overrides, root)
        prepare(composed.cfg)
    missing = [word for word in words if word not in str(refused.value)]
    assert not missing and "\n" not in str(refused.value), f"{missing} not said in: {refused.value}"


def test_defaults_in_a_circle_are_one_line(folder: Path) -> None:
    (folder / "conf" / "circle.yaml").write_text("defaults: [train, circle, _self_]\n")
    catalog.add_folder(folder)
    with pytest.raises(UserError, match="config: "):
        compose([], "circle")


@pytest.mark.parametrize(
    ("file", "content", "pattern"),
    [
        ("mine", "dropout: 0.3\n", r"(defaults: \[.*\])"),
        ("trainer/mine", "max_steps: 3\n", r"(defaults: \[.*\])"),
        ("tracking/mine", "uri: null\n", r"(defaults: \[.*\])"),
        ("search/mine", "n_trials: 3\n", r"(defaults: \[.*\])"),
        ("experiment/mine", "trainer: {max_steps: 7}\n", r"(# @package _global_)"),
        ("model/mine", UNET, r"write (.*) into"),
        ("data/mine", DATA, r"write (.*) into"),
        ("solver/mine", "_target_: denoise.model.solver.heun\nsteps: 4\n", r"write (.*) into"),
    ],
)
def test_what_the_line_says_to_write_makes_the_file_good(file: str, content: str, pattern: str, folder: Path) -> None:
    overrides, root = written(folder, file, content)
    with pytest.raises(UserError) as refused:
        compose(overrides, root)
    shown = re.search(pattern, str(refused.value))
    assert shown, str(refused.value)
    found = compose(*written(folder, file, f"{shown[1]}\n{content}")).cfg
    kept = {"mine": "dropout", "trainer/mine": "trainer.max_steps", "experiment/mine": "trainer.max_steps"}
    if file in kept:
        assert select(found, kept[file]) in (0.3, 3, 7)


RIGHT = {
    "mine": ROOT + "dropout: 0.1\nallow: [mine.]\ntrainer: {gradient_clip: 1.0, limits: {max_steps: [1, 400]}}\n"
    "parts: {residual: {placement: post}}\noptimizer: {space: {lr: {high: 0.5}}}\n",
    "experiment/mine": GLOBAL + "defaults: [{override /optimizer: lion}]\ntrainer: {max_steps: 7}\n",
    "trainer/mine": TRAINER + "val_every: 7\n",
    "search/mine": SEARCH + "domains: {dropout: {type: float, low: 0.0, high: 0.3}}\nkinds: {activation: [silu]}\n"
    "confirm: {seeds: 4}\n",
    "sampler/mine": "_target_: search.samplers.tpe.TPE\nn_startup_trials: 4\n",
    "model/mine": UNET + "class_conditional: false\n",
}


@pytest.mark.parametrize("file", RIGHT)
def test_a_file_of_ones_own_with_keys_of_the_project_is_taken(file: str, folder: Path) -> None:
    compose(*written(folder, file, RIGHT[file]))


@pytest.mark.parametrize("option", ["ablation_full", "pareto_full", "shape", "parts"])
def test_a_search_of_the_project_has_only_its_own_keys(option: str, folder: Path) -> None:
    written(folder, "trainer/mine", TRAINER)
    compose([f"search={option}"], "search")


def test_a_search_file_without_its_defaults_is_refused_where_its_overrides_are_read(folder: Path) -> None:
    (override,), _ = written(folder, "search/mine", "n_trials: 4\n")
    with pytest.raises(UserError, match="lacks search.mode"):
        read([override])
