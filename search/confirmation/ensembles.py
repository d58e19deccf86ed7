"""Each arm's seeds as one model, and the finalists' best seeds as one."""

from collections.abc import Sequence

from denoise.evaluation.ensemble import Member, averages, evaluate, objective
from denoise.metrics import TEST_LOSS
from search.analysis.confirmation import Confirmation, EnsembleScore
from search.confirmation.trainings import Trainings, order


def ensembles(found: Confirmation, trainings: Trainings) -> list[EnsembleScore]:
    """Average what the trainings predict whose weights are here."""
    made: list[EnsembleScore] = []
    best: list[tuple[float, str, Member]] = []
    for arm in found.arms:
        members: list[tuple[float, str, Member]] = []
        for seed, value in arm.values.items():
            one = order(arm, seed, found.settings.test_samples)
            path = trainings.weights(one.digest)
            if value is not None and trainings.waits(arm.runs[seed], path):
                members.append((value, arm.runs[seed], Member(one.composed.cfg, path)))
        made += _ensemble(f"{arm.name}, {len(members)} seeds", members)
        if arm in found.finalists and members:
            best.append(min(members, key=lambda member: member[0]))
    return made + _ensemble(f"the best seeds of {len(best)} finalists", best)


def still_true(before: Sequence[EnsembleScore], found: Confirmation) -> list[EnsembleScore]:
    """Of an earlier confirmation with fewer seeds the ensembles whose members' weights are gone by now."""
    runs = {run for arm in found.arms for run in arm.runs.values()}
    return [one for one in before if runs.issuperset(one.runs) and one.of not in {new.of for new in found.ensembles}]


def _ensemble(of: str, members: Sequence[tuple[float, str, Member]]) -> list[EnsembleScore]:
    """None of less than two members, none of members with other objectives, none of what cannot be averaged."""
    if len(members) < 2 or not averages(members[0][2].cfg):
        return []
    if any(objective(m.cfg) != objective(members[0][2].cfg) for _, _, m in members):
        return []
    values = [value for value, _, _ in members]
    value = evaluate([member for _, _, member in members])[TEST_LOSS]
    return [EnsembleScore(of, [run for _, run, _ in members], value, sum(values) / len(values), min(values))]
