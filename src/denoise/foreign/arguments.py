"""How a network is called: which of its arguments is the image, the noise level, the label; and what it returns."""

import inspect
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from denoise.errors import UserError, choose

IMAGES = (
    "sample",
    "x",
    "hidden_states",
    "x_t",
    "xt",
    "image",
    "images",
    "img",
    "input",
    "inputs",
    "noisy",
    "pixel_values",
)
TIMES = (
    *("timestep", "timesteps", "t", "time", "times", "ts", "noise_labels", "noise_level", "noise_levels", "c_noise"),
    *("sigma", "sigmas", "step", "time_step", "time_steps", "log_snr", "gamma"),
)
LABELS = ("class_labels", "y", "labels", "label", "classes", "class_label", "class_id", "c")
WIDTHS = {  # arguments that are no data of ours, and the settings that say how wide zeros for them are
    "encoder_hidden_states": ("caption_channels", "joint_attention_dim", "encoder_hid_dim", "cross_attention_dim"),
    "pooled_projections": ("pooled_projection_dim",),
}
RETURNS = ("auto", "sample", "[0]", "tensor")
NAMELESS = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True)
class Arguments:
    """The names of a network's arguments: image, time, labels ("": it takes none), and zeros by name and width.

    told: which condition of the data an argument is given.
    """

    image: str
    time: str
    labels: str
    zeros: Mapping[str, int]
    told: Mapping[str, str] = field(default_factory=dict)

    def of(
        self, x: Tensor, time: Tensor, labels: Tensor | None, conditions: Mapping[str, Tensor] | None = None
    ) -> dict[str, Any]:
        """The arguments by name; what is no data of ours is zeros, a token of them for encoder_hidden_states."""
        found: dict[str, Any] = {self.image: x, self.time: time}
        if self.labels and labels is not None:
            found[self.labels] = labels
        if self.told:
            if conditions is None:
                raise ValueError(f"this network is told {', '.join(self.told.values())}: give it conditions")
            found |= {argument: conditions[name] for argument, name in self.told.items()}
        for name, width in self.zeros.items():
            tokens = (1,) if name == "encoder_hidden_states" else ()
            found[name] = x.new_zeros(len(x), *tokens, width)
        return found


def arguments(net: nn.Module, call: Any, conditions: Collection[str] = ()) -> Arguments:
    """Read `model.call` for a network; an argument is given the condition of its name, or the one that `call` says.

    Errors: UserError where its arguments are not known, or not there.
    """
    who = type(net).__name__
    taken = {n: p for n, p in inspect.signature(net.forward).parameters.items() if p.kind not in NAMELESS}
    said = f"{who}.forward({', '.join(taken)})"
    way = "say it as model.call=IMAGE/TIME/LABELS by their names, - for labels where it takes none"
    every = [word.strip() for word in str(call).split("/")]
    words = [word for word in every if "=" not in word]
    said_to = dict(word.split("=", 1) for word in every if "=" in word)
    told = {name: name for name in conditions if name in taken and name not in words} | said_to
    for argument, name in said_to.items():
        if argument not in taken or name not in conditions:
            lacks = f"{said} has no {argument}" if argument not in taken else f"the data have no {name}"
            raise UserError(f"model.call={call}: {lacks}; {_there(conditions)}; write ARGUMENT=NAME")
    if words not in (["auto"], []):
        names = [*words, "-"][:3]
        if len(words) not in (2, 3) or (missing := next((w for w in names if w != "-" and w not in taken), None)):
            reason = f"{said} has no {missing}" if len(words) in (2, 3) else "not two or three names"
            raise UserError(f"model.call={call}: {reason}; {way}")
        image, time, labels = names
    else:
        image = next((name for name in IMAGES if name in taken), next(iter(taken), ""))
        time = next((name for name in TIMES if name in taken and name != image), "")
        labels = next((name for name in LABELS if name in taken and name not in (image, time, *told)), "-")
        if not time:
            raise UserError(f"model.call=auto: which argument of {said} is the noise level is not known; {way}")
    labels = "" if labels == "-" else labels
    if twice := next((argument for argument in said_to if argument in (image, time, labels)), None):
        raise UserError(f"model.call={call}: {twice} of {said} is the image, the noise level or the labels already")
    told = {argument: name for argument, name in told.items() if argument not in (image, time, labels)}
    zeros = {name: width for name in WIDTHS if name in taken and name not in told and (width := _width(net, name))}
    for name, parameter in taken.items():
        if parameter.default is parameter.empty and name not in (image, time, labels, *zeros, *told):
            raise UserError(
                f"model.call={call}: {said} needs {name}, which the data do not have; {_there(conditions)}; bring it "
                f"as an array of data=tensors, name another by model.call={call}/{name}=NAME, or give {name} a default"
            )
    return Arguments(image, time, labels, zeros, told)


def _there(conditions: Collection[str]) -> str:
    return f"their conditions: {', '.join(conditions) or 'none'}"


def _width(net: nn.Module, name: str) -> int:
    config = getattr(net, "config", None)
    for setting in WIDTHS[name]:
        value = getattr(config, setting, None)
        value = value[0] if isinstance(value, list | tuple) and value else value
        if isinstance(value, int):
            return value
    return 0


def read(output: Any, returns: str, who: str) -> Tensor:
    """The images in what a network returned. Errors: UserError where there are none to be found."""
    if returns not in RETURNS:
        raise UserError(f"model.returns={returns}: unknown; {choose(returns, RETURNS)}")
    found = output
    if returns == "sample" or (returns == "auto" and hasattr(output, "sample") and not isinstance(output, Tensor)):
        found = output["sample"] if isinstance(output, Mapping) else getattr(output, "sample", None)
    elif returns == "auto" and isinstance(output, Mapping):
        found = output.get("sample")
    elif returns == "[0]" or (returns == "auto" and isinstance(output, list | tuple)):
        found = output[0] if isinstance(output, list | tuple) and output else None
    if not isinstance(found, Tensor):
        what = type(output).__name__
        inner = f" of {', '.join(type(each).__name__ for each in output)}" if isinstance(output, list | tuple) else ""
        raise UserError(
            f"model.returns={returns}: {who} returns a {what}{inner}, in which that is no tensor; legal: "
            f"{', '.join(RETURNS)}"
        )
    return found


def ladder() -> Tensor:
    """ln sigma of the DDPM's 1000 steps, sigma^2 = (1 - a) / a, a = prod(1 - b), b from 1e-4 to 0.02: (1000,).

    Ho et al. 2020, arXiv:2006.11239.
    """
    kept = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    return ((1 - kept) / kept).log() / 2


def step_of(log_sigma: Tensor, steps: Tensor) -> Tensor:
    """The step of a ladder, 0 to 999, with this ln sigma: linear between two steps, at its ends beyond them."""
    above = torch.searchsorted(steps, log_sigma.contiguous()).clamp(1, len(steps) - 1)
    low, high = steps[above - 1], steps[above]
    return (above - 1 + (log_sigma - low) / (high - low)).clamp(0, len(steps) - 1)
