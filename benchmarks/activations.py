"""Measure every activation, forward and backward, against its plain formula under autograd.

    python -m benchmarks.activations [size=full|quick]
    python -m benchmarks.activations --markdown [size=full|quick]

One thread, float32, channels_last, in training. Nanoseconds per number (median of rounds, all activations in turns),
and bytes per number that are kept between the passes. The plain formula is what a person would write in torch: a line
in PLAIN. `--markdown` prints the results of an earlier run.
"""

import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import arguments, results
from denoise.config import catalog
from denoise.errors import UserError
from denoise.kernels.put_in import put_in

SIZES: dict[str, tuple[tuple[int, int, int, int], int]] = {
    "full": ((64, 64, 16, 16), 15),  # shape, rounds
    "quick": ((8, 16, 8, 8), 3),
}
GOAL = 1.5  # ours over plain, at most, where the maths is ours
OWN = "denoise.activation."

# (x, our module for its numbers) -> y
PLAIN: dict[str, Callable[[Tensor, Any], Tensor]] = {
    "abrelu": lambda x, m: F.relu(x - x.mean((1, 2, 3), keepdim=True)),
    "apl": lambda x, m: F.relu(x) + sum(a * F.relu(b - x) for a, b in _pairs(m, x)),
    "brelu": lambda x, m: torch.clamp(F.relu(x), max=m.max_val),
    "celu": lambda x, m: F.relu(x) + (m.alpha * (torch.exp(x / m.alpha) - 1)).clamp(max=0),
    "elliott": lambda x, m: 0.5 * x / (1 + x.abs()) + 0.5,
    "elu": lambda x, m: torch.where(x > 0, x, m.alpha * (torch.exp(x) - 1)),
    "gelu": lambda x, m: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))),
    "gelu_cauchy": lambda x, m: x * (0.5 + torch.atan(x) / math.pi),
    "gelu_sigma": lambda x, m: x * 0.5 * (1 + torch.erf(x / (m.sigma * math.sqrt(2)))),
    "gelu_stochastic": lambda x, m: x * torch.bernoulli(0.5 * (1 + torch.erf(x.detach() / math.sqrt(2)))),
    "gelu_tanh": lambda x, m: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "hard_sigmoid": lambda x, m: torch.clamp(x / 6 + 0.5, 0, 1),
    "hard_tanh": lambda x, m: torch.clamp(x, -1, 1),
    "hardswish": lambda x, m: x * torch.clamp(x + 3, 0, 6) / 6,
    "identity": lambda x, m: x,
    "leaky_relu": lambda x, m: torch.where(x > 0, x, m.negative_slope * x),
    "lisht": lambda x, m: x * torch.tanh(x),
    "logish": lambda x, m: x * torch.log(1 + torch.sigmoid(x)),
    "mish": lambda x, m: x * torch.tanh(F.softplus(x)),
    "parametric_sigmoid": lambda x, m: torch.sigmoid(x) ** m.m,
    "pau": lambda x, m: _polynomial(m.a, x) / (1 + (_polynomial(m.b, x) * x).abs()),
    "pdelu": lambda x, m: torch.where(
        x > 0, x, m.alpha * (F.relu(1 + (1 - m.t) * x.clamp(max=0)) ** (1 / (1 - m.t)) - 1)
    ),
    "pelu": lambda x, m: _pelu(x, F.softplus(m.raw_a), F.softplus(m.raw_b)),
    "prelu": lambda x, m: torch.where(x > 0, x, m.weight * x),
    "relu": lambda x, m: torch.clamp(x, min=0),
    "relu6": lambda x, m: torch.clamp(x, 0, 6),
    "resech": lambda x, m: x / torch.cosh(x),
    "rrelu": lambda x, m: torch.where(x > 0, x, torch.empty_like(x).uniform_(m.lower, m.upper) * x),
    "scaled_tanh": lambda x, m: m.a * torch.tanh(m.b * x),
    "selu": lambda x, m: 1.0507009873554805 * torch.where(x > 0, x, 1.6732632423543772 * (torch.exp(x) - 1)),
    "serf": lambda x, m: x * torch.erf(F.softplus(x)),
    "sigmoid": lambda x, m: 1 / (1 + torch.exp(-x)),
    "silu": lambda x, m: x * torch.sigmoid(x),
    "smelu": lambda x, m: torch.where(x.abs() < m.beta, (x + m.beta) ** 2 / (4 * m.beta), F.relu(x)),
    "snake": lambda x, m: x + torch.sin(F.softplus(m.raw_a) * x) ** 2 / F.softplus(m.raw_a),
    "softplus": lambda x, m: torch.log(1 + torch.exp(m.beta * x)) / m.beta,
    "softsign": lambda x, m: x / (1 + x.abs()),
    "squared_relu": lambda x, m: F.relu(x) ** 2,
    "srs": lambda x, m: x / (x / F.softplus(m.raw_alpha) + torch.exp(-x / F.softplus(m.raw_beta))),
    "star_relu": lambda x, m: m.s * F.relu(x) ** 2 + m.b,
    "swish": lambda x, m: x * torch.sigmoid(m.beta * x),
    "tanh": lambda x, m: (torch.exp(x) - torch.exp(-x)) / (torch.exp(x) + torch.exp(-x)),
    "tanh_exp": lambda x, m: x * torch.tanh(torch.exp(x)),
}


def _pairs(m: Any, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    shape = (m.hinges, -1, *(1,) * (x.ndim - 2 if x.ndim == 4 else 0))
    return zip(m.a.view(shape), m.b.view(shape), strict=True)


def _polynomial(c: Tensor, x: Tensor) -> Tensor:
    y = c[-1]
    for one in c[:-1].flip(0):
        y = y * x + one
    return y


def _pelu(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(x > 0, a / b * x, a * (torch.exp(x.clamp(max=0) / b) - 1))


def kept(run: Callable[[], Tensor]) -> int:
    """Bytes of what autograd keeps after a forward pass, each storage once."""
    found: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = run()
    del y
    return sum(found.values())


def seconds(run: Callable[[], Tensor], inputs: Sequence[Tensor], g: Tensor) -> float:
    """Seconds of one forward and one backward pass."""
    began = time.perf_counter()
    torch.autograd.grad(run(), inputs, g)
    return time.perf_counter() - began


@contextmanager
def one_thread() -> Iterator[None]:
    """Run in one thread, then put the number back."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def measure(size: str, say: Callable[[str], None]) -> tuple[list[dict[str, Any]], list[results.Row]]:
    """Measure all activations: what was found for each, and the rows that have a goal."""
    shape, rounds = SIZES[size]
    with one_thread():
        torch.manual_seed(0)
        x = torch.randn(shape).to(memory_format=torch.channels_last).requires_grad_()
        g = torch.randn(shape).to(memory_format=torch.channels_last)
        runs = {name: _runs(name, x) for name in catalog.options("activation")}
        times: dict[str, dict[str, list[float]]] = {name: {side: [] for side in runs[name][1]} for name in runs}
        for turn in range(rounds + 2):
            for name, (module, sides) in runs.items():
                inputs = [x, *module.parameters()]
                for side in list(sides) if turn % 2 else reversed(list(sides)):
                    spent = seconds(sides[side], inputs, g)
                    if turn >= 2:  # two rounds to warm up
                        times[name][side].append(spent)
            if turn in (0, rounds + 1):
                say(f"activations: round {turn + 1} of {rounds + 2}")
        raw = [_entry(name, runs[name][1], times[name], x.numel()) for name in runs]
    own = [entry for entry in raw if entry["own"] and entry["ratio"] is not None]
    slowest, fattest = max(own, key=lambda e: e["ratio"]), max(own, key=lambda e: e["bytes"]["ours"])
    what = f"time of an own activation by its plain formula's, the slowest ({slowest['activation']})"
    kept_most = f"kept per number by an own activation, the most ({fattest['activation']})"
    return raw, [
        results.Row("e", what, slowest["ratio"], relation="<=", goal=GOAL),
        results.Row("e", kept_most, fattest["bytes"]["ours"], "B"),
    ]


def _runs(name: str, x: Tensor) -> tuple[nn.Module, dict[str, Callable[[], Tensor]]]:
    module: nn.Module = catalog.build("activation", name, x.shape[1])
    put_in(module)  # as a network is built
    sides: dict[str, Callable[[], Tensor]] = {"ours": lambda: module(x)}
    if name in PLAIN:
        sides["plain"] = lambda: PLAIN[name](x, module)
    return module, sides


def _entry(
    name: str, sides: dict[str, Callable[[], Tensor]], times: dict[str, list[float]], numbers: int
) -> dict[str, Any]:
    ratios = [a / b for a, b in zip(times["ours"], times.get("plain", []), strict=False)]
    return {
        "activation": name,
        "own": catalog.entry("activation", name).target.startswith(OWN),
        "ns": {side: round(statistics.median(spent) / numbers * 1e9, 3) for side, spent in times.items()},
        "ratio": round(statistics.median(ratios), 3) if ratios else None,
        "bytes": {side: round(kept(run) / numbers, 2) for side, run in sides.items()},
        "seconds": {side: [round(s, 7) for s in spent] for side, spent in times.items()},
    }


def markdown(content: dict[str, Any]) -> str:
    """The results as a markdown table under a line about the machine."""
    found = content["machine"]
    shape = "x".join(map(str, content["shape"]))
    lines = [
        f"`{content['command']}`, {content['date'][:10]}, commit {content['commit'] or 'unknown'}.",
        "",
        f"{found['processor']}, one thread, {found['instructions']}, torch {content['versions']['torch']}; {shape} "
        f"float32, channels_last; median of {content['rounds']} rounds; load of the machine before and after: "
        f"{', '.join(str(value[0]) for value in content['load'].values())}.",
        "",
        "| activation | maths | ns, forward and backward | plain formula | ratio | bytes kept | plain formula |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in content["activations"]:
        ns, size = entry["ns"], entry["bytes"]
        ratio = "" if entry["ratio"] is None else f"{entry['ratio']:.2f}"
        plain = (f"{ns['plain']:.2f}", ratio, f"{size['plain']:.0f}") if "plain" in ns else ("", "", "")
        cells = (
            f"`{entry['activation']}`",
            "own" if entry["own"] else "torch",
            f"{ns['ours']:.2f}",
            *plain[:2],
            f"{size['ours']:.0f}",
            plain[2],
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def place(size: str) -> Path:
    """The results file of a size."""
    return results.FOLDER / ("activations.json" if size == "full" else f"activations-{size}.json")


def main(given: Sequence[str] | None = None) -> int:
    """Measure, or show what was measured. Exit status: 0 done, 2 a refusal."""
    words = list(sys.argv[1:] if given is None else given)
    try:
        shown = "--markdown" in words
        named = [word for word in words if word != "--markdown"]
        size = arguments.read(named, {"size": "full"}, {"size": arguments.one_of(*SIZES)})["size"]
        path = place(size)
        if shown and not path.exists():
            raise UserError(f"{path.relative_to(results.ROOT)}: no results yet; measure with benchmarks.activations")
    except UserError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    if not shown:
        record(size, " ".join(["python -m benchmarks.activations", *words]), lambda text: print(text, file=sys.stderr))
    print(markdown(json.loads(path.read_text())))
    return 0


def record(size: str, command: str, say: Callable[[str], None]) -> list[results.Row]:
    """Measure and write the results file."""
    content = results.start(command, size)
    (content["shape"], content["rounds"]), content["torch_threads"] = SIZES[size], 1
    content["activations"], rows = measure(size, say)
    content["rows"] = [results.as_json(row) for row in rows]
    content["load"]["after"] = results.load()
    results.write(place(size), content)
    return rows


if __name__ == "__main__":
    sys.exit(main())
