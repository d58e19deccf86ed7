"""The user's own arrays, data sets on disk, and the emoji: what is read, and what is refused in a line."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from denoise.config import compose
from denoise.data import cache, dataset, emoji, load
from denoise.data.images import SPLITS, Images, floats
from denoise.data.tensors import tensors
from denoise.errors import UserError

COUNT = 20


@pytest.fixture(autouse=True)
def in_memory(monkeypatch):
    monkeypatch.setattr(cache, "kept_in", None)


def arrays(channels: int = 4, kind: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """Latents in which row i is about i, with labels and two conditions that hold i."""
    i = torch.arange(COUNT)
    x = i.view(-1, 1, 1, 1) + torch.linspace(0, 0.5, channels * 6).view(1, channels, 2, 3)
    return {"x": x.to(kind), "y": i % 3, "text": i.double()[:, None].expand(-1, 5), "mask": i % 2 == 0}


def write(folder: Path, form: str, content: dict[str, torch.Tensor]) -> Path:
    path = folder / f"latents{form}"
    content = {name: array.contiguous() for name, array in content.items()}
    if form == ".npz":
        np.savez(path, **{name: array.numpy() for name, array in content.items()})
    elif form == ".npy":
        np.save(path, content["x"].numpy())
    elif form == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)
    return path


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("form", [".npz", ".npy", ".pt", ".safetensors"])
def test_each_row_keeps_its_label_and_its_conditions(tmp_path, form, kept):
    path = write(tmp_path, form, arrays())
    if kept:
        cache.keep_in(tmp_path)
        tensors(str(path))
    data = tensors(str(path))
    assert bool(data.sha256) == kept
    assert data.kind == "latent" and data.shape == (4, 2, 3) and [len(data.images[s]) for s in SPLITS] == [14, 3, 3]
    rows = {split: x[:, 0, 0, 0].long() for split, x in data.images.items()}
    assert sorted(torch.cat(list(rows.values())).tolist()) == list(range(COUNT))
    if form == ".npy":
        assert data.num_classes == 1 and not data.conditions
        return
    assert data.num_classes == 3 and set(data.conditions) == {"text", "mask"}
    for split in SPLITS:
        assert torch.equal(data.labels[split], rows[split] % 3)
        assert torch.equal(data.conditions["text"][split], rows[split].float()[:, None].expand(-1, 5))
        assert torch.equal(data.conditions["mask"][split], rows[split] % 2 == 0)


@pytest.mark.parametrize(
    ("x", "kind", "dtype"),
    [
        (torch.arange(COUNT * 12).view(COUNT, 3, 2, 2).byte(), "picture", torch.uint8),
        (torch.arange(COUNT * 12).view(COUNT, 3, 2, 2) / 120 - 1, "picture", torch.float32),
        (torch.arange(COUNT * 12).view(COUNT, 3, 2, 2) / 110 - 1, "latent", torch.float32),
        (torch.arange(COUNT * 16).view(COUNT, 4, 2, 2) / 160 - 1, "latent", torch.float32),
        (torch.arange(COUNT * 12).view(COUNT, 3, 2, 2).double() / 120 - 1, "picture", torch.float32),
        (torch.arange(COUNT * 12).view(COUNT, 3, 2, 2).half() / 256, "picture", torch.float32),
        (torch.arange(COUNT * 12).view(COUNT, 3, 2, 2).bfloat16(), "latent", torch.float32),
    ],
)
def test_what_is_a_picture(tmp_path, x, kind, dtype):
    data = tensors(str(write(tmp_path, ".safetensors", {"x": x})))
    assert data.kind == kind and data.images["train"].dtype == dtype
    assert sorted(torch.cat(list(data.images.values())).flatten().tolist()) == sorted(x.to(dtype).flatten().tolist())


REFUSED = {
    "no x": ({"z": torch.zeros(9, 1, 2, 2)}, "has no array x, but z; x of"),
    "three dimensions": ({"x": torch.zeros(9, 2, 2)}, r"shape \(9, 2, 2\); x of \(N, C, H, W\)"),
    "channels last": ({"x": torch.zeros(9, 8, 8, 3)}, "channels last"),
    "whole numbers": ({"x": torch.zeros(9, 1, 2, 2, dtype=torch.int64)}, "int64; give uint8, or floats"),
    "no row": ({"x": torch.zeros(0, 1, 2, 2)}, r"shape \(0, 1, 2, 2\)"),
    "floats as labels": (arrays() | {"y": torch.zeros(COUNT)}, r"y is torch.float32 .*whole numbers of shape \(20,\)"),
    "too few labels": (arrays() | {"y": torch.zeros(3, dtype=torch.int64)}, r"y is .*shape \(3,\)"),
    "labels below 0": (arrays() | {"y": torch.arange(COUNT) - 1}, "y is -1 to 18; legal: classes from 0"),
    "labels far out": (arrays() | {"y": torch.arange(COUNT) * 10**6}, "y is 0 to 19000000; legal"),
    "rows that lack": (arrays() | {"text": torch.zeros(7, 2)}, r"text is of shape \(7, 2\), x has 20 rows"),
    "all the same": ({"x": torch.zeros(9, 4, 2, 2)}, "9 images to train on, 1 different"),
    "not finite": ({"x": arrays()["x"] / torch.arange(COUNT).view(-1, 1, 1, 1)}, "not finite"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_arrays_of_another_form_are_refused(tmp_path, case):
    content, said = REFUSED[case]
    path = write(tmp_path, ".npz", content)
    with pytest.raises(UserError, match=said) as refusal:
        cache.keep_in(tmp_path / "store")
        load(compose.compose(["data=tensors", f"data.root={path}"]).cfg.data)
    assert "\n" not in str(refusal.value) and not (tmp_path / "store").exists()


class Hostile:
    def __reduce__(self):
        return exec, ("raise SystemExit('it was run')",)


@pytest.mark.parametrize("form", [".npz", ".npy", ".pt", ".safetensors"])
def test_nothing_in_a_file_is_run_and_a_damaged_one_is_refused(tmp_path, form):
    path = tmp_path / f"x{form}"
    for content in (b"", b"no array", write(tmp_path, form, arrays()).read_bytes()[:300]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="cannot be read"):
            tensors(str(path))
    if form == ".pt":
        torch.save({"x": Hostile()}, path)
    elif form in (".npz", ".npy"):
        (np.savez if form == ".npz" else np.save)(path, np.array([Hostile()] * 9, dtype=object))
    else:
        return
    with pytest.raises(UserError, match="cannot be read"):
        tensors(str(path))


def test_another_ending_is_refused(tmp_path):
    (tmp_path / "x.csv").write_text("")
    with pytest.raises(UserError, match="x.csv: not a file of arrays; legal: .npz, .npy"):
        tensors(str(tmp_path / "x.csv"))


# ---------------------------------------------------------------- data sets on disk


def pictures(count: int = COUNT) -> list[Image.Image]:
    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)) for _ in range(count)]


def png(image: Image.Image) -> dict[str, object]:
    file = io.BytesIO()
    image.save(file, "png")
    return {"bytes": file.getvalue(), "path": None}


def saved(folder: Path, form: str) -> Path:
    """Twenty images, the classes of which are known by their first byte."""
    datasets = pytest.importorskip("datasets")
    images = pictures()
    words = ["even" if np.asarray(image)[0, 0, 0] % 2 == 0 else "odd" for image in images]
    features = datasets.Features({"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["even", "odd"])})
    path = folder / "saved"
    if form == "imagefolder":
        for i, (image, word) in enumerate(zip(images, words, strict=True)):
            (path / word).mkdir(parents=True, exist_ok=True)
            image.save(path / word / f"{i}.png")
        return path
    rows = {"picture": [png(image) for image in images], "kind": words}
    whole = datasets.Dataset.from_dict(rows, features=features)
    if form == "parquet":
        path.mkdir()
        whole.select(range(12)).to_parquet(path / "train-00000-of-00001.parquet")
        whole.select(range(12, COUNT)).to_parquet(path / "test-00000-of-00001.parquet")
    elif form == "splits":
        parts = {"train": range(10), "validation": range(10, 16), "test": range(16, COUNT)}
        datasets.DatasetDict({name: whole.select(part) for name, part in parts.items()}).save_to_disk(path)
    else:
        whole.save_to_disk(path)
    return path


FORMS = {"whole": (14, 3, 3), "splits": (10, 6, 4), "parquet": (10, 2, 8), "imagefolder": (14, 3, 3)}


@pytest.mark.parametrize("form", FORMS)
def test_a_data_set_on_disk_is_read(tmp_path, form):
    path = saved(tmp_path, form)
    columns = ("image", "label") if form == "imagefolder" else ("picture", "kind")
    data = dataset.dataset(str(path), *columns, image_size=8)
    assert tuple(len(data.images[split]) for split in SPLITS) == FORMS[form] and data.num_classes == 2
    for split in SPLITS:
        assert torch.equal(data.images[split][:, 0, 0, 0].long() % 2, data.labels[split])
    everything = {image.numpy().tobytes() for split in SPLITS for image in data.images[split]}
    assert everything == {np.asarray(image).transpose(2, 0, 1).tobytes() for image in pictures()}


def test_a_data_set_that_cannot_be_used_is_refused(tmp_path):
    path = saved(tmp_path, "whole")
    for columns, said in (("image", None), "data.image=image; legal: picture, kind"), (("picture", "knd"), "'kind'"):
        with pytest.raises(UserError, match=said):
            dataset.dataset(str(path), *columns)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no data set that can be read"):
        dataset.dataset(str(tmp_path / "empty"))


def test_without_the_package_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(UserError, match="needs the package datasets.*make install EXTRA=diffusers"):
        dataset.dataset(str(tmp_path))


# ---------------------------------------------------------------- emoji


def font(files: list[bytes], form: int) -> bytes:
    """A font of nothing but bitmaps: glyph 7 is the first, one glyph has none. OpenType 1.9, CBLC and CBDT."""
    bodies = [b"" if not body else bytes(5) + struct.pack(">I", len(body)) + body for body in files]
    offsets = np.cumsum([0, *map(len, bodies)]).tolist()
    subtable = struct.pack(">HHI", form, 17, 4) + struct.pack(f">{len(offsets)}{'I' if form == 1 else 'H'}", *offsets)
    where = struct.pack(">HHI", 3, 0, 1) + struct.pack(">III", 56, 8 + len(subtable), 1) + bytes(36)
    where += struct.pack(">HHI", 7, 6 + len(files), 8) + subtable
    what = struct.pack(">HH", 3, 0) + b"".join(bodies)
    head = struct.pack(">IHHHH", 0x00010000, 2, 0, 0, 0)
    start = len(head) + 32
    records = struct.pack(">4sIII", b"CBDT", 0, start + len(where), len(what))
    return head + records + struct.pack(">4sIII", b"CBLC", 0, start, len(where)) + where + what


@pytest.mark.parametrize("form", [1, 3])
def test_the_bitmaps_of_a_font_are_found(tmp_path, form):
    files = [png(image)["bytes"] for image in pictures(6)]
    files.insert(2, b"")
    path = tmp_path / "NotoColorEmoji.ttf"
    path.write_bytes(font(files, form))
    assert emoji.bitmaps(path) == {7 + i: body for i, body in enumerate(files) if body}
    data = emoji.emoji(str(tmp_path), image_size=8)
    assert data.shape == (3, 8, 8) and sum(map(len, data.images.values())) == 6


def test_what_is_no_such_font_is_refused_with_the_way_to_get_it(tmp_path):
    with pytest.raises(UserError, match="apt-get install fonts-noto-color-emoji"):
        emoji.emoji(str(tmp_path))
    for content in (b"", b"no font at all, but some text", font([b"x"], 1)[:90]):
        (tmp_path / "a.ttf").write_bytes(content)
        with pytest.raises(UserError, match="no font with bitmaps in colour"):
            emoji.emoji(str(tmp_path / "a.ttf"))


def test_the_font_of_debian_is_whole():
    if not Path(emoji.FONT).exists():
        pytest.skip("Debian's fonts-noto-color-emoji is not here")
    found = emoji.bitmaps(Path(emoji.FONT))
    assert len(found) > 3_000 and all(body.startswith(b"\x89PNG") for body in found.values())
    assert {Image.open(io.BytesIO(body)).size for body in found.values()} == {(136, 128)}


def test_bytes_and_floats_are_one_data_set(tmp_path):
    x = torch.arange(COUNT * 12).view(COUNT, 3, 2, 2).byte()
    hashes = set()
    for name, form in (("bytes", x), ("floats", floats(x))):
        (tmp_path / name).mkdir()
        data: Images = tensors(str(write(tmp_path / name, ".npz", {"x": form})))
        hashes.add(data.content_hash())
    assert len(hashes) == 1
