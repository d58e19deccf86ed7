"""Part g: reading the user's own images against Pillow alone, and what they take in memory and in a training step."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from benchmarks.results import Row, ratio_row
from benchmarks.steps import WARM, Bare
from denoise.config.compose import compose
from denoise.data.cache import keep_in
from denoise.data.collect import threads
from denoise.data.folder import folder

Say = Callable[[str], None]
PROCESSES = 4
LOAD = """
import sys, time
from pathlib import Path
from denoise.data.cache import keep_in
from denoise.data.folder import folder
import denoise.data.pixels, sklearn, torch

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024

def mapped():
    found, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        inside = line.endswith("images.npy") if "-" in line.split(":")[0].split(" ")[0] else inside
        found += 1024 * int(line.split()[1]) if inside and line.startswith("Pss:") else 0
    return found

root, size = sys.argv[1], int(sys.argv[2])
folder(root + "/warm", image_size=8)
if sys.argv[3]:
    keep_in(Path(sys.argv[3]))
Path("/proc/self/clear_refs").write_text("5")
before = peak()
data = folder(root + "/many", image_size=size)
print(peak() - before, sum(images.nbytes for images in data.images.values()), flush=True)
for images in data.images.values():
    images.sum()
print("read", flush=True)
sys.stdin.readline()
print(mapped(), flush=True)
sys.stdin.readline()
"""


@dataclass(frozen=True)
class Size:
    """Photographs that are decoded, in turns; small images for the memory, and their side; pairs of steps."""

    photos: int
    turns: int
    images: int
    side: int
    steps: int


SIZES = {"full": Size(400, 5, 2000, 128, 60), "quick": Size(40, 2, 200, 32, 6)}


def measure(size: Size, say: Say) -> tuple[dict[str, Any], list[Row]]:
    """Measure in a folder that goes at the end."""
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        write(home / "photos", size.photos, 400)
        write(home / "many", size.images, size.side)
        write(home / "warm", 8, 8)
        decoding = [decode(home / "photos") for _ in range(size.turns)]
        say(f"reading / decoding: {[round(ours / theirs, 2) for ours, theirs in decoding]}")
        peak, shared = memory(home, size)
        say(f"peak / stored {peak:.2f}; {PROCESSES} processes / 1 {shared:.2f}")
        steps = step_rates(home, size)
        say(f"streamed / in memory: {statistics.median(whole / streamed for whole, streamed in steps):.3f}")
    rows = [
        ratio_row("g", "a folder read, by Pillow's decoding", [a / b for a, b in decoding], "<=", 2.0),
        Row("g", "peak memory of a load, by the bytes stored", peak, relation="<=", goal=2.0),
        Row("g", f"images in memory, {PROCESSES} processes by one", shared, relation="<=", goal=1.2),
        ratio_row("g", "rate of steps, streamed by in memory", [a / b for a, b in steps], ">=", 0.95),
    ]
    return {"decoding_seconds": decoding, "peak": peak, "shared": shared, "step_seconds": steps}, rows


def write(home: Path, count: int, side: int) -> None:
    """Cuts of two photographs at random places, half as JPEG and half as PNG."""
    home.mkdir()
    draw, pictures = np.random.default_rng(0), load_sample_images().images
    for i in range(count):
        picture = pictures[i % 2]
        y, x = (int(draw.integers(0, most - side)) for most in picture.shape[:2])
        Image.fromarray(picture[y : y + side, x : x + side]).save(home / f"{i}.{'jpg' if i % 4 < 2 else 'png'}")


def decode(home: Path) -> tuple[float, float]:
    """Seconds of reading a folder at 64x64, and of Pillow decoding its files in as many threads."""
    began = time.perf_counter()
    folder(str(home), image_size=64)
    ours = time.perf_counter() - began

    def load(path: Path) -> None:
        with Image.open(path) as image:
            image.load()

    began = time.perf_counter()
    with ThreadPoolExecutor(threads()) as pool:
        list(pool.map(load, sorted(home.iterdir())))
    return ours, time.perf_counter() - began


def memory(home: Path, size: Size) -> tuple[float, float]:
    """The peak above the start by the bytes that are stored; what several processes hold of them by what one holds."""
    command = [sys.executable, "-c", LOAD, str(home), str(size.side)]
    alone = subprocess.run([*command, ""], input="\n\n", capture_output=True, text=True, check=True)
    peak, stored = map(int, alone.stdout.splitlines()[0].split())
    held = []
    for count in (1, PROCESSES):
        group = [
            subprocess.Popen([*command, str(home / "kept")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(count)
        ]
        pages = [0]
        for process in group:
            assert process.stdout is not None
            process.stdout.readline(), process.stdout.readline()  # all have read all
        for process in group:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            pages.append(int(process.stdout.readline()))
        for process in group:
            process.communicate("\n")
        held.append(sum(pages))
    return peak / stored, held[1] / held[0]


def step_rates(home: Path, size: Size) -> list[tuple[float, float]]:
    """Seconds of each step with the images in memory, and streamed from their file, in turns."""
    keep_in(home)
    shared = ["data=folder", f"data.root={home / 'many'}", "data.image_size=32", "model.width=8"]
    loops = [Bare(compose([*shared, f"data.memory={most}"]).cfg) for most in (4.0, 0.0)]

    def seconds(loop: Bare, number: int) -> float:
        began = time.perf_counter()
        loop.step(number)
        return time.perf_counter() - began

    rounds = [(seconds(loops[0], number), seconds(loops[1], number)) for number in range(WARM + size.steps)]
    return rounds[WARM:]
