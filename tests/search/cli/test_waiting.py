"""What is said at once: what will be done, before torch is loaded."""

import subprocess
import sys

import pytest

from denoise.config.compose import compose
from search.cli.waiting import plan
from search.space.search_config import read

LIGHT = """
import sys
from search.cli.waiting import plan
from search.space.search_config import read
print(plan(read(["search.confirm.finalists=0"])[0]))
assert not {"torch", "lightning", "mlflow", "optuna"} & set(sys.modules), "loaded before a word is said"
"""


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (
            [],
            "search=joint model=unet data=digits: 36 trials of at most 300 steps, then the best 2 beside the baseline",
        ),
        (["search=ablation"], "3 trials of at most 150 steps for each option of activation, then the best 2"),
        (["search.confirm.finalists=0", "search.n_trials=7"], "7 trials of at most 300 steps; the time left"),
    ],
)
def test_a_search_says_what_it_will_do(typed: list[str], said: str) -> None:
    assert said in plan(read(typed)[0])


def test_a_training_says_what_it_will_do() -> None:
    assert plan(compose(["data=emoji", "trainer.max_steps=40"])) == "model=unet data=emoji: 40 steps"


def test_that_is_said_before_anything_heavy_is_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("search=joint"), done.stderr
