"""What a run is called in MLflow's lists."""

from hypothesis import given
from hypothesis import strategies as st

from search.trial.run import MOST_LETTERS, run_name


def test_a_long_name_ends_with_a_whole_word_and_says_that_it_goes_on() -> None:
    long = ", ".join(["rms_norm", "trunc_normal std 0.00575", "muon lr 0.0188 weight_decay 0.00795"] * 3)
    name = run_name("014", long)
    assert len(name) <= MOST_LETTERS and name.endswith("...") and f"014 {long}".startswith(name[:-3])
    assert f"014 {long}"[len(name) - 3] in ", ", "no word is cut"
    assert run_name("000", "baseline") == "000 baseline" and run_name("train") == "train"


@given(st.text(max_size=200))
def test_a_name_has_room(differs: str) -> None:
    name = run_name("014", differs)
    assert len(name) <= MOST_LETTERS and (name == f"014 {differs}".strip() or len(name) > MOST_LETTERS // 2)
