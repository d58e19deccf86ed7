"""The quality of drawn images as plain data: the figures of each arm of a confirmation, and how the loss agrees."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from scipy import stats

from denoise.errors import UserError
from denoise.evaluation.sample_quality import Figure
from denoise.metrics import KERNEL_DISTANCE, QUALITY
from search.console.printed_commands import named

FILE, FORMAT = "quality.json", 1


@dataclass(frozen=True)
class ArmQuality:
    """The figures of one arm, in the mean of some of its seeds.

    run_id, trial, differs: the arm's; runs: seed -> run, of what was measured; each: seed -> figure -> value; figures:
    of the mean, by name; beside: the difference to the baseline's, empty of the baseline; loss: the mean test loss over
    these seeds; failure: why there is no figure.
    """

    run_id: str
    trial: int | None
    differs: str
    runs: dict[int, str] = field(default_factory=dict)
    each: dict[int, dict[str, float]] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)
    beside: dict[str, Figure] = field(default_factory=dict)
    loss: float | None = None
    failure: str = ""


@dataclass(frozen=True)
class QualityFound:
    """What a confirmation's drawn images are like.

    asked: what the figures depend on beside the arms' weights; of: which trainings the confirmation had; features: what
    they are of, in words; accuracy: of the classifier whose features they are, on the test images; count: images of
    either kind; level: of the intervals; training: the figures of as many training images; arms: the baseline first.
    """

    asked: dict[str, Any]
    of: list[str]
    features: str
    accuracy: float | None
    count: int
    level: float
    training: dict[str, float]
    arms: list[ArmQuality]

    @property
    def measured(self) -> list[ArmQuality]:
        """The arms that have figures."""
        return [arm for arm in self.arms if arm.figures]

    @property
    def correlation(self) -> float | None:
        """Spearman's of the kernel distance and the test loss over the arms; None of fewer than three, or of ties."""
        pairs = [(a.figures[KERNEL_DISTANCE].value, a.loss) for a in self.measured if a.loss is not None]
        distances, losses = ([pair[k] for pair in pairs] for k in (0, 1))
        if len(pairs) < 3 or len({*distances}) < 2 or len({*losses}) < 2:
            return None
        return float(stats.spearmanr(distances, losses).statistic)


def to_json(found: QualityFound) -> bytes:
    """As JSON; from_json gives it back."""
    return json.dumps({"format": FORMAT, **asdict(found)}, indent=1, allow_nan=False).encode()


def from_json(content: bytes) -> QualityFound:
    """Read what to_json wrote. Errors: UserError for anything else: what comes back from a tracker is data."""
    try:
        plain = json.loads(content)
        if plain.pop("format") != FORMAT:
            raise ValueError("format")
        plain["arms"] = [_arm(one) for one in plain["arms"]]
        plain["training"] = _numbers(plain["training"])
        texts = [
            plain["features"],
            *plain["of"],
            *(text for arm in plain["arms"] for text in (arm.differs, arm.failure)),
        ]
        numbers = [plain["count"], plain["level"], plain["accuracy"] or 0.0]
        if not all(isinstance(text, str) for text in texts) or not all(_number(value) for value in numbers):
            raise ValueError("a text or a number")
        return QualityFound(**plain)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{FILE}: not a sample quality, or of another version; {named('search')} writes it anew"
        ) from error


def _arm(plain: dict[str, Any]) -> ArmQuality:
    found = plain | {"runs": {int(seed): str(run) for seed, run in plain["runs"].items()}}
    found["each"] = {int(seed): _numbers(values) for seed, values in plain["each"].items()}
    for name in ("figures", "beside"):
        found[name] = {key: Figure(**value) for key, value in plain[name].items()}
        for figure in found[name].values():
            _numbers({each: value for each, value in asdict(figure).items() if value is not None})
        if found[name] and {*found[name]} != {*QUALITY}:
            raise ValueError(name)
    if not (plain["loss"] is None or _number(plain["loss"])) or not (plain["trial"] is None or _number(plain["trial"])):
        raise ValueError("loss")
    return ArmQuality(**found)


def _numbers(plain: Mapping[str, Any]) -> dict[str, float]:
    if not all(_number(value) for value in plain.values()):
        raise ValueError("number")
    return dict(plain)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
