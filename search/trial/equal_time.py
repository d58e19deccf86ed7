"""Equal time: as many steps for a trial as the baseline's time allows."""

from collections.abc import Container, Sequence

from denoise.config.compose import compose, raw_compose
from denoise.config.overrides import Overrides
from denoise.metrics import STEP_SECONDS
from denoise.training import train
from search.storages.attributes import OfStudy
from search.storages.trials import Trials
from search.trial import pretrained

STEPS = 16  # of a look at the pace; the first ones are left out
KEYS = ("trainer.max_steps", "trainer.val_every")  # what equal time sets


def equal_time(study: Trials, overrides: Sequence[str], baseline: Sequence[str]) -> list[str]:
    """Add trainer.max_steps and trainer.val_every to a trial, so that its steps take the time of the baseline's.

    It has as many evaluations as the baseline, at the same fractions of the way. The baseline's pace is measured once
    and kept with the study. A pace is measured, so equal time is equal within some per cent, and the number of steps
    that a trial got is in its overrides.
    """
    known = study.user_attrs.get(OfStudy.PACE)
    if known is None:
        known = pace(baseline)
        study.set_user_attr(OfStudy.PACE, known)
    t = compose(list(baseline)).cfg.trainer
    if list(overrides) == list(baseline):
        return list(overrides)
    own = pace(overrides)
    if not known or not own:
        return list(overrides)
    ratio = known / own
    every = max(1, round(t.val_every * ratio))
    steps = max(1, round(every * t.max_steps / t.val_every))
    return list(Overrides(overrides).with_values({"trainer.max_steps": steps, "trainer.val_every": every}))


def as_it_was(overrides: Sequence[str], before: Sequence[str], searched: Container[str] = ()) -> list[str]:
    """The overrides with the steps that a trial had before by its equal time; as they are where it had the same.

    Of what is `searched`, then or now, the value is the trial's own: it is not put back.
    """
    steps = Overrides(before).only(KEYS).without(searched)
    return list(overrides) if all(text in overrides for text in steps) else list(steps.over(overrides))


def pace(overrides: Sequence[str]) -> float | None:
    """Seconds of a training step, from a few of them; None for what cannot be trained, as its trial will say."""
    cfg = raw_compose(tuple(overrides)).cfg
    cfg.trainer.update({"max_steps": STEPS, "val_every": STEPS, "val_samples": 4, "gap_samples": 0})
    cfg.trainer.health_every = 10 * STEPS
    cfg.solver.update({name: least for name, least in {"images": 1, "steps": 2}.items() if name in cfg.solver})
    try:
        return train.train(pretrained.resolve(cfg)).metrics.get(STEP_SECONDS)
    except Exception:  # whatever an option of the user's own may raise
        return None
