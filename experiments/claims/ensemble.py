"""Claim 9: the averaged prediction of several denoisers."""

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from denoise.training.module import BANDS
from experiments.claims.denoisers import Trained, losses, predict, trained
from experiments.claims.finding import Check, Finding, Table, mean_spread, pm, short
from experiments.claims.plot import Axis, Line, Panel, Plot

MEMBERS, STEPS, BATCH = 6, 200, 32
LONGER = (0, 1)  # seeds of the trainings that take as many steps as a whole ensemble
SIZE = 3  # members of the ensembles that are compared over subsets


def spread_of(predictions: Tensor, one: Trained) -> Tensor:
    """The members' mean weighted squared distance to their mean prediction: (K, N, C, S, S) -> (N,)."""
    about = predictions - predictions.mean(0) + one.triples.images
    return torch.stack([losses(each, one) for each in about]).mean(0)


def claim_9(members: int = MEMBERS, steps: int = STEPS, longer: Sequence[int] = LONGER) -> Finding:
    """Train the members, and some for as long as all of them together; average what they predict."""
    models = [trained(seed, steps, BATCH) for seed in range(members)]
    one = models[0]
    predictions = torch.stack([predict(model) for model in models]).double()
    each = torch.stack([losses(prediction, one) for prediction in predictions])  # (K, N)
    single = each.mean(1).tolist()
    all_ = losses(predictions.mean(0), one)
    spread = spread_of(predictions, one)
    mean, together = sum(single) / members, all_.mean().item()
    subsets = {k: list(combinations(range(members), k)) for k in range(1, members + 1)}
    loss = {s: losses(predictions[list(s)].mean(0), one).mean().item() for found in subsets.values() for s in found}
    some = subsets[min(SIZE, members)]
    gains = [sum(single[i] for i in s) / len(s) - loss[s] for s in some]
    best = [min(single[i] for i in s) - loss[s] for s in some]
    one_long = [trained(seed, members * steps, BATCH).loss for seed in longer]
    gap = mean - together
    above = float((all_ > each.mean(0) * (1 + 1e-9)).sum())
    checks = [
        Check("ensemble's loss / its members' mean", together / mean, high=1.0),
        Check(f"ensembles of {len(some[0])} (all {len(some)}): the largest loss / its members' mean",
              max(loss[s] / (loss[s] + gain) for s, gain in zip(some, gains, strict=True)), high=1.0),
        Check(f"of {len(all_)} noise levels, those at which the ensemble is worse than the mean", above, 0, 0),
        Check("mean - ensemble - spread of the members: 0 by the theorem", abs(gap - spread.mean().item()), high=1e-9),
    ]  # fmt: skip
    bands = zip(*(values.tensor_split(BANDS) for values in (each.mean(0), all_)), strict=True)
    sizes = list(subsets)
    by_size = [[loss[s] for s in subsets[k]] for k in sizes]
    return Finding(
        checks=checks,
        tables=[
            Table(f"Validation loss; {members} members, seeds 0 to {members - 1}.", ["what", "loss"], [
                ["members, mean ± standard deviation", pm(single, 4)],
                ["members, best and worst", f"{min(single):.4f}, {max(single):.4f}"],
                ["**ensemble of all**", f"**{together:.4f}**"],
                ["spread of the members about their mean prediction", f"{spread.mean().item():.4f}"],
                [f"one model trained {members} times as long, mean ± standard deviation, {len(one_long)} seeds",
                 pm(one_long, 4)],
            ]),
            Table("Ensembles by the number of members, all subsets: loss, and how many of them beat their best member.",
                  ["members", "subsets", "loss, mean (least to largest)", "beat their best member"],
                  [[str(k), str(len(found)), f"{mean_spread(v)[0]:.4f} ({min(v):.4f} to {max(v):.4f})",
                    f"{sum(loss[s] < min(single[i] for i in s) for s in found)} of {len(found)}"]
                   for (k, found), v in zip(subsets.items(), by_size, strict=True) if k > 1]),
            Table("By noise band, low to high.", ["band", "mean of the members", "ensemble", "ratio"], [
                [str(i), f"{a.mean():.4f}", f"{b.mean():.4f}", short(b.mean().item() / a.mean().item())]
                for i, (a, b) in enumerate(bands)
            ]),
        ],
        plot=Plot("Claim 9: ensembles", [
            Panel("loss by number of members", Axis("members"), Axis("validation loss"), [
                Line("mean over all subsets", sizes, [mean_spread(v)[0] for v in by_size]),
                Line("best subset", sizes, [min(v) for v in by_size]),
                Line("worst subset", sizes, [max(v) for v in by_size]),
                Line(f"one model, {members} times as long", sizes, [mean_spread(one_long)[0]] * members, True),
            ]),
        ]),
        values={"members": single, "ensemble": together, "longer": one_long, f"gains over the best of {SIZE}": best},
    )  # fmt: skip
