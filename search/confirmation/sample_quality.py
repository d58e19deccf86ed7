"""The quality of the images that a confirmation's trainings draw, from weights that wait, or are with their runs."""

import tempfile
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from denoise.errors import UserError
from denoise.evaluation import sample_quality as quality
from denoise.evaluation.ensemble import Member
from denoise.evaluation.sample_quality import LEVEL, Measured, SampleQuality
from denoise.training import train
from search.analysis.confirmation import Arm, Confirmation
from search.confirmation.trainings import Trainings, order
from search.quality.found import FILE, ArmQuality, QualityFound, from_json, to_json
from search.report.progress import TrialDisplay
from search.tracking.tracker import Run, Tracker


def measured(
    cfg: DictConfig, trainings: Trainings, found: Confirmation | None, screen: TrialDisplay
) -> QualityFound | None:
    """Measure what a search's config asks for, written to its run; what was measured of the same stays.

    None where nothing is asked, nothing was confirmed, or no weights are there. cfg: the search's.
    """
    before = stored(trainings.tracker, trainings.parent.run_id)
    if not quality.asked(cfg) or found is None:
        return before
    try:
        return _measure(cfg, trainings, found, before, screen)
    except UserError as error:  # a file that was changed since the search began, or that fails on what was drawn
        screen.note(f"sample quality is not measured: {error}")
        return before


def _measure(
    cfg: DictConfig, trainings: Trainings, found: Confirmation, before: QualityFound | None, screen: TrialDisplay
) -> QualityFound:
    beside = SampleQuality(cfg, trainings.tracker.store / "quality")
    asked = _asked(cfg, beside)
    runs = sorted(run for arm in found.arms for run in arm.runs.values())
    if before is not None and (before.asked, before.of) == (asked, runs):
        return before
    members = _chosen([_members(arm, found, trainings) for arm in found.arms], quality.setting(cfg, "seeds"))
    if not any(members):
        raise UserError("the weights are gone; another search.name=NAME trains them again")
    screen.note(f"measuring sample quality: {beside.count} images of each of {sum(map(len, members))} trainings")
    arms, training, features = _arms(found, members, beside), beside.of_training_images(), beside.features
    made = QualityFound(asked, runs, features.name, features.accuracy, beside.count, LEVEL, training, arms)
    _report(made, trainings.tracker)
    trainings.parent.artifacts({FILE: to_json(made)})
    return made


def stored(tracker: Tracker, parent: str) -> QualityFound | None:
    """What was measured of a search; None where there is nothing that can be read here."""
    if not tracker.has(parent, FILE):
        return None
    with tempfile.TemporaryDirectory() as folder:
        try:
            return from_json(tracker.artifact(parent, FILE, Path(folder)).read_bytes())
        except UserError:
            return None


def _asked(cfg: DictConfig, beside: SampleQuality) -> dict[str, Any]:
    """What the figures depend on; not where a file of features lies, but what is in it."""
    plain: Any = OmegaConf.to_container(cfg.quality, resolve=True)
    asked = {name: value for name, value in plain.items() if name not in ("limits", "path")}
    return asked | {"data_sha256": train.data_sha256(cfg), "features_sha256": beside.features.sha256}


def _members(arm: Arm, found: Confirmation, trainings: Trainings) -> dict[int, Member]:
    """The trainings of an arm whose weights are there, by seed."""
    members = {}
    for seed, value in arm.values.items():
        one = order(arm, seed, found.settings.test_samples)
        path = trainings.weights(one.digest)
        if value is None:
            continue
        if not trainings.waits(arm.runs[seed], path):
            trainings.bring(arm.runs[seed], one.digest)
        if trainings.waits(arm.runs[seed], path):
            members[seed] = Member(one.composed.cfg, path)
    return members


def _chosen(members: list[dict[int, Member]], most: int) -> list[dict[int, Member]]:
    """The first seeds that all arms have; where there is none, of each arm the first."""
    some = [each for each in members if each]
    both = [seed for seed in (some[0] if some else ()) if all(seed in each for each in some)][:most]
    return [{seed: each[seed] for seed in both or list(each)[:1]} if each else {} for each in members]


def _arms(found: Confirmation, members: list[dict[int, Member]], beside: SampleQuality) -> list[ArmQuality]:
    made, base = list[ArmQuality](), None
    for arm, those in zip(found.arms, members, strict=True):
        sets: dict[int, Measured] = {}
        failure = "" if those else "no training that finished has its weights"
        for seed, member in those.items():
            one = beside.of(member)
            if one is None:
                failure = f"the images of seed {seed} are not finite numbers"
                break
            sets[seed] = one
        if failure:
            made.append(ArmQuality(arm.run_id, arm.trial, arm.differs, failure=failure))
            continue
        mean = quality.mean(list(sets.values()))
        base = mean if arm is found.baseline else base
        compared = {} if base is None or arm is found.baseline else quality.figures(quality.difference(mean, base))
        losses = [value for seed in sets if (value := arm.values[seed]) is not None]
        made.append(
            ArmQuality(
                arm.run_id,
                arm.trial,
                arm.differs,
                runs={seed: arm.runs[seed] for seed in sets},
                each={seed: one.values for seed, one in sets.items()},
                figures=quality.figures(mean),
                beside=compared,
                loss=sum(losses) / len(losses),
            )
        )
    return made


def _report(made: QualityFound, tracker: Tracker) -> None:
    """Tell each training's figures as metrics of its run."""
    for arm in made.arms:
        for seed, run_id in arm.runs.items():
            run = Run(tracker, run_id)
            run.metrics(tracker.record(run_id).step, arm.each[seed])
            run.flush()
