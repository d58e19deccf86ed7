"""Every learning-rate schedule against its formula at every step."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from denoise.config import catalog
from tests import formulas

OPTIONS = catalog.options("lr_schedule")


def rates(option: str, max_steps: int, lr: float = 0.5, **parameters: float) -> list[float]:
    """The learning rate of each update."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    schedule = catalog.build("lr_schedule", option, optimizer, max_steps, **parameters)
    met = []
    for _ in range(max_steps):
        met.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return met


def domains(option: str) -> dict[str, st.SearchStrategy]:
    """Each searched parameter's whole domain."""
    space = catalog.entry("lr_schedule", option).space
    return {name: st.floats(d["low"], d["high"]) for name, d in space.items()}


@pytest.mark.parametrize("option", OPTIONS)
@given(data=st.data(), max_steps=st.integers(1, 150))
@settings(max_examples=40, deadline=None)
def test_follows_the_formula_at_every_step(option, data, max_steps):
    formula = formulas.find("lr_schedule", option)
    drawn = data.draw(st.fixed_dictionaries(domains(option)))
    parameters = {**catalog.entry("lr_schedule", option).parameters, **drawn}
    wanted = [0.5 * formula(t, max_steps, **parameters) for t in range(1, max_steps + 1)]
    assert rates(option, max_steps, **drawn) == pytest.approx(wanted, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("max_steps", [1, 2, 3, 10, 300])
def test_rates_are_positive_and_at_most_lr(option, max_steps):
    met = rates(option, max_steps)
    assert all(0 <= rate <= 0.5 * (1 + 1e-12) for rate in met)
    assert max(met) == pytest.approx(0.5)


def test_a_warmup_starts_low_and_the_cosine_ends_near_final():
    met = rates("warmup_cosine", 200, lr=1.0, warmup=0.1, final=0.25)
    assert met[0] == pytest.approx(1 / 20) and met[19] == met[20] == pytest.approx(1)
    assert met[-1] == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize("option", [option for option in OPTIONS if option.startswith("warmup")])
def test_the_first_step_of_a_warmup_is_of_some_size_and_it_is_torchs(option):
    """1 / ramp, 2 / ramp, ..., 1: LinearLR's from 1 / ramp on in ramp - 1 steps."""
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / 12, total_iters=11)
    wanted = []
    for _ in range(12):
        wanted.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates(option, 120, lr=1.0, warmup=0.1)[:12] == pytest.approx(wanted) and wanted[0] == 1 / 12
