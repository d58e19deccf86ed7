"""What the table of trainings says of options: against means where they must be equal, and where the truth is known."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution

from experiments.search_evidence import options
from search.catalog_pages import evidence

SIZE = 4000


def pool(truth: np.ndarray, **kinds: np.ndarray) -> Any:
    domains = {name: CategoricalDistribution([f"{name}{k}" for k in range(5)]) for name in kinds}
    columns = {name: values.astype(float) for name, values in kinds.items()}

    class Pool(SimpleNamespace):
        def __len__(self) -> int:
            return len(truth)

    return Pool(truth=truth, columns=columns, domains=domains, kinds=tuple(kinds), steps=8)


def test_places_are_shares_and_failures_share_the_last() -> None:
    found = options.places(pool(np.array([0.5, 0.1, np.inf, 0.3, np.inf]), a=np.zeros(5)))
    assert found.tolist() == pytest.approx([0.5, 0.1, 0.8, 0.3, 0.8])


def test_of_one_kind_a_place_is_the_mean_place() -> None:
    draw = np.random.default_rng(0)
    chosen, truth = draw.integers(0, 4, 200), draw.normal(size=200)
    given = pool(truth, a=chosen)
    place = options.places(given)
    for row in options.effects(given)["a"]:
        own = place[chosen == int(row["option"][1:])]
        assert row["place"] == pytest.approx(own.mean()) and row["configs"] == len(own)


def test_what_another_kind_does_is_taken_out() -> None:
    """a does nothing, but its option 1 comes mostly with b's bad option: the plain mean blames it."""
    draw = np.random.default_rng(1)
    b = draw.integers(0, 2, SIZE)
    a = np.where(draw.random(SIZE) < 0.8, b, draw.integers(0, 2, SIZE))
    given = pool(b + draw.normal(size=SIZE), a=a, b=b)
    place = options.places(given)
    assert place[a == 1].mean() - place[a == 0].mean() > 0.2
    rows = {row["option"]: row for row in options.effects(given)["a"]}
    assert abs(rows["a1"]["place"] - rows["a0"]["place"]) < 0.04
    assert all(low < 0.5 < high for low, high in (row["interval_95"] for row in rows.values()))


def test_an_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    held = 0
    for number in range(200):
        draw = np.random.default_rng(number)
        found = options.effects(pool(draw.normal(size=150), a=draw.integers(0, 5, 150), b=draw.integers(0, 3, 150)))
        low, high = next(row["interval_95"] for row in found["a"] if row["option"] == "a2")
        held += low < 0.5 < high
    assert held >= 180


def test_failed_configs_and_the_best_tenth_are_counted() -> None:
    truth = np.arange(40.0)
    truth[30:35] = np.inf
    (first, second) = sorted(options.effects(pool(truth, a=np.arange(40) // 20))["a"], key=lambda row: row["option"])
    assert (first["best_tenth"], first["failed"], second["best_tenth"], second["failed"]) == (4, 0, 0, 5)


def test_a_page_says_nothing_where_nothing_was_measured(tmp_path: Any) -> None:
    (tmp_path / "summary.jsonl").write_text("[]")
    for path in (tmp_path / "missing.jsonl", tmp_path / "summary.jsonl"):
        assert evidence.section("activation", evidence.read(path)) == []
