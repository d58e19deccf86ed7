"""Overrides as one value, against a plain walk over their texts."""

import json

from hypothesis import given
from hypothesis import strategies as st

from denoise.config.overrides import Overrides, key

KEYS = ("activation", "optimizer.lr", "seed", "activation@parts.residual.activation", "search.kinds.activation")
TEXTS = st.builds("{}{}={}".format, st.sampled_from(["", "+", "++", "~"]), st.sampled_from(KEYS), st.integers(0, 3))
GIVEN = st.lists(TEXTS, max_size=8)


def test_a_key_is_what_is_set() -> None:
    assert key("optimizer.lr=0.01") == "optimizer.lr" and key("~search.domains.dropout") == "search.domains.dropout"
    assert key("++activation@parts.residual.activation=gelu") == "activation@parts.residual.activation"
    assert Overrides(["a=1", "b=x=y", "a=2"]).values == {"a": "2", "b": "x=y"}


@given(GIVEN, GIVEN, st.sets(st.sampled_from(KEYS)))
def test_what_is_left_and_what_stands_over_another(first: list[str], second: list[str], keys: set[str]) -> None:
    one, other = Overrides(first), Overrides(second)
    assert sorted([*one.only(keys), *one.without(keys)]) == sorted(one)
    assert not keys & one.without(keys).values.keys() and one.only(keys).values.keys() <= keys
    both = one.over(other)
    assert both.values == other.values | one.values  # what is typed wins, the rest stays
    assert both[len(both) - len(one) :] == one
    assert [text for text in both if key(text) not in one.values] == [t for t in other if key(t) not in one.values]


@given(GIVEN, st.dictionaries(st.sampled_from(KEYS), st.integers()))
def test_values_are_set_once_and_stand_last(texts: list[str], values: dict[str, int]) -> None:
    found = Overrides(texts).with_values(values)
    assert list(found[len(found) - len(values) :]) == [f"{name}={value}" for name, value in values.items()]
    assert found.without(values) == Overrides(texts).without(values)
    assert json.loads(json.dumps(found)) == list(found)  # as a record has them
