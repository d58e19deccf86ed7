"""A folder of the user's own images: what is a class, a split, left out, said, kept; and what is refused in a line."""

import json
import struct
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from denoise.config import compose
from denoise.data import cache, folder, load
from denoise.data.collect import divide
from denoise.data.images import Images
from denoise.errors import UserError

SPLITS = ("train", "validation", "test")


def write(root: Path, *names: str, size: tuple[int, int] = (8, 8), seed: int = 0) -> Path:
    """An image of noise for each name, all different."""
    draw = np.random.default_rng(seed)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)).save(root / name)
    return root


def numbered(folder: str, count: int) -> list[str]:
    return [f"{folder}/{i}.png" for i in range(count)]


@pytest.fixture(autouse=True)
def in_memory(monkeypatch):
    monkeypatch.setattr(cache, "kept_in", None)


def read(root: Path, kept: Path | None = None, **more) -> Images:
    """With `kept`, from the file of a store there."""
    if kept is not None:
        cache.keep_in(kept)
    return folder.folder(str(root), **{"image_size": 8, **more})


def typed(root: Path, store: Path, *more: str) -> Images:
    cache.keep_in(store)
    return load(compose.compose(["data=folder", f"data.root={root}", *more]).cfg.data)


def sizes(data: Images) -> tuple[int, ...]:
    return tuple(len(data.images[split]) for split in SPLITS)


# ---------------------------------------------------------------- classes and splits


def test_folders_are_classes(tmp_path):
    data = read(write(tmp_path, *numbered("cat", 12), *numbered("dog/2019/may", 8)))
    assert data.num_classes == 2 and sizes(data) == (14, 3, 3) and data.shape == (3, 8, 8)
    assert Counter(torch.cat(list(data.labels.values())).tolist()) == {0: 12, 1: 8}
    assert (
        data.notes[0].startswith("data: 20 images of 2 classes in")
        and "train 14, validation 3, test 3" in data.notes[0]
    )


def test_each_image_has_the_label_of_its_folder(tmp_path):
    write(tmp_path, *numbered("cat", 6), *numbered("dog", 6))
    known = {np.asarray(Image.open(p)).tobytes(): "cat dog".split().index(p.parent.name) for p in tmp_path.glob("*/*")}
    data = read(tmp_path)
    for split in SPLITS:
        for image, label in zip(data.images[split], data.labels[split], strict=True):
            assert known[image.permute(1, 2, 0).contiguous().numpy().tobytes()] == label


@pytest.mark.parametrize("held", ["val", "valid", "validation", "Validation"])
def test_folders_of_splits_are_splits(tmp_path, held):
    names = [
        *numbered("train/cat", 9),
        *numbered("train/dog", 8),
        *numbered(f"{held}/dog", 3),
        *numbered("test/cat", 2),
    ]
    data = read(write(tmp_path, *names))
    assert sizes(data) == (17, 3, 2) and data.num_classes == 2
    assert data.labels["validation"].tolist() == [1] * 3 and data.labels["test"].tolist() == [0] * 2


@pytest.mark.parametrize(
    ("names", "counts", "classes"),
    [
        ([*numbered("train", 20)], (14, 3, 3), 1),
        ([*numbered("train", 20), *numbered("val", 5)], (17, 5, 3), 1),
        ([*numbered("train", 20), *numbered("test", 5)], (17, 3, 5), 1),
        ([*numbered("train", 10), *numbered("bus", 10)], (14, 3, 3), 2),  # a class of trains
        ([*numbered("test", 10), *numbered("val", 10)], (14, 3, 3), 2),
        ([f"{i}.png" for i in range(20)], (14, 3, 3), 1),
    ],
)
def test_a_split_that_is_not_there_is_cut_out_of_the_training_images(tmp_path, names, counts, classes):
    data = read(write(tmp_path, *names))
    assert sizes(data) == counts and data.num_classes == classes


def test_what_lies_beside_splits_and_classes_is_told(tmp_path):
    write(tmp_path, *numbered("train", 9), *numbered("val", 3), *numbered("test", 3), "preview.png", "raw/1.png")
    data = read(tmp_path)
    assert sizes(data) == (9, 3, 3) and "2 images beside the folders test, train, val are not used" in data.notes[-1]
    data = read(write(tmp_path / "other", *numbered("cat", 9), "1.png", "2.png"))
    assert data.num_classes == 2 and "2 images lie in no folder of their own: they are a class" in data.notes[-1]


def test_hidden_files_other_files_and_links_that_lead_back_are_not_met(tmp_path):
    write(tmp_path, *numbered("cat", 9), ".cache/1.png", "cat/.2.png", "cat/UPPER.PNG")
    (tmp_path / "cat" / "about.txt").write_text("no image")
    (tmp_path / "cat" / "again").symlink_to(tmp_path)
    assert sum(sizes(read(tmp_path))) == 10


def test_a_class_of_one_image_is_told(tmp_path):
    data = read(write(tmp_path, *numbered("cat", 9), "dog/1.png"))
    assert "one image only of 1 classes, dog: in one split only" in data.notes[-1]


@given(st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["", *SPLITS])), max_size=60), st.booleans())
@settings(max_examples=200, deadline=None)
def test_equal_images_are_never_in_two_splits(images, given_splits):
    """Whatever splits were given: nothing in train is in validation or test, nothing of one content is torn."""
    digests = [bytes([content]) if content else None for content, _ in images]
    splits = [split if given_splits else "" for _, split in images]
    try:
        parts, equal, dropped = divide(digests, splits, "here")
    except UserError as refusal:
        assert "different ones or more are needed" in str(refusal)
        return
    contents = [{digests[i] for i in parts[split]} for split in SPLITS]
    assert all(contents) and None not in set.union(*contents) and sum(map(len, contents)) == len(set.union(*contents))
    every = [i for split in SPLITS for i in parts[split]]
    readable = [i for i, digest in enumerate(digests) if digest is not None]
    assert len(every) == len(set(every)) == len(readable) - dropped and equal == len(every) - len(set.union(*contents))
    assert set.union(*contents) == {digests[i] for i in readable} and (given_splits or not dropped)
    for split in SPLITS[1:]:
        assert not given_splits or all(splits[i] in (split, "", "train") for i in parts[split])


def test_equal_files_stay_together_and_are_told(tmp_path):
    write(tmp_path, *numbered("cat", 20))
    for i in range(10):
        Image.open(tmp_path / "cat" / f"{i}.png").save(tmp_path / "cat" / f"copy-{i}.bmp")
    data = read(tmp_path)
    seen = [{image.numpy().tobytes() for image in data.images[split]} for split in SPLITS]
    assert sum(sizes(data)) == 30 and sum(map(len, seen)) == 20
    assert any("10 images equal another one" in note for note in data.notes)
    write(tmp_path / "split", *numbered("train", 10), *numbered("val", 4), *numbered("test", 4))
    Image.open(tmp_path / "split" / "val" / "1.png").save(tmp_path / "split" / "train" / "copy.bmp")
    data = read(tmp_path / "split")
    assert sum(sizes(data)) < 19 and any("left out, as equal ones are held back" in note for note in data.notes)


# ---------------------------------------------------------------- what is read, and what is not


def test_the_size_may_be_no_square_and_grey(tmp_path):
    data = read(write(tmp_path, *numbered("cat", 9), size=(20, 30)), image_size=[6, 10], channels=1)
    assert data.shape == (1, 6, 10) and data.images["train"].dtype == torch.uint8


def header_of_a_png(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + body + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


def spoil(root: Path) -> list[str]:
    """Files that are no images, cut short, or would fill the memory."""
    whole = (root / "cat" / "0.png").read_bytes()
    broken = {"text.png": b"no image", "empty.jpg": b"", "short.png": whole[: len(whole) // 2]}
    broken |= {"large.png": header_of_a_png(20_000, 20_000), "larger.png": header_of_a_png(9_000, 10_500)}
    for name, content in broken.items():
        (root / "cat" / name).write_bytes(content)
    return sorted(broken)


def test_files_that_cannot_be_read_are_named_and_counted(tmp_path):
    write(tmp_path, *numbered("cat", 20))
    broken = spoil(tmp_path)
    data = read(tmp_path, most_unreadable=0.2)
    (told,) = (note for note in data.notes if "left out" in note)
    assert sum(sizes(data)) == 20 and told.startswith("data: 5 of 25 left out") and all(name in told for name in broken)
    assert told.count("more than 89 million pixels") == 2
    with pytest.raises(UserError, match=r"5 of 25 images cannot be read: .*data.most_unreadable=0.2"):
        read(tmp_path)


def nothing(root: Path) -> None:
    root.mkdir()


def a_file(root: Path) -> None:
    write(root.parent, root.name + ".png").joinpath(root.name + ".png").rename(root)


def broken(root: Path) -> None:
    write(root, *numbered("cat", 1))
    spoil(root)
    (root / "cat" / "0.png").unlink()


BAD = {
    "no such folder": (lambda root: None, "photos: no such file or folder; give the folder of your images"),
    "another name": (lambda root: nothing(root.parent / "photo"), "no such file or folder; did you mean 'photo'?"),
    "a file": (a_file, "photos: a file; give the folder"),
    "no image": (nothing, "photos: no image there; legal: JPEG, PNG"),
    "all unreadable": (broken, "photos: none of 5 images can be read: cat/empty.jpg"),
    "one image": (lambda root: write(root, "1.png"), "photos: 1 image to train on; 3 different ones or more"),
    "two images": (lambda root: write(root, "1.png", "2.png"), "photos: 2 images to train on; 3 different"),
    "one image twice": (
        lambda root: [write(root, f"{i}/1.png") for i in range(5)],
        "5 images to train on, 1 different; 3 different ones",
    ),
    "a name of two lines": (lambda root: write(root, "a\nb.png"), "1 image to train on"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_used_is_refused_in_a_line_and_nothing_is_written(tmp_path, case):
    make, said = BAD[case]
    make(tmp_path / "photos")
    with pytest.raises(UserError) as refusal:
        typed(tmp_path / "photos", tmp_path / "store")
    assert said in str(refusal.value) and "\n" not in str(refusal.value)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("image_size", [[8], [8, 8, 8], [0, 8], 0])
def test_a_size_that_is_none_is_refused(tmp_path, image_size):
    with pytest.raises(UserError, match="data.image_size="):
        read(tmp_path, image_size=image_size)
    with pytest.raises(UserError, match="data.image_size="):
        compose.compose(["data=folder", f"data.image_size={image_size}".replace(" ", "")])
    with pytest.raises(UserError, match="data.channels=2"):
        read(tmp_path, channels=2)
    with pytest.raises(UserError, match="data.root: not given"):
        folder.folder()


# ---------------------------------------------------------------- what is kept


def same(one: Images, other: Images) -> bool:
    return all(torch.equal(one.images[split], other.images[split]) for split in SPLITS)


def test_what_was_decoded_is_kept_and_a_changed_folder_is_noticed(tmp_path, monkeypatch):
    root = write(tmp_path / "photos", *numbered("cat", 9), *numbered("dog", 9))
    in_memory, first = read(root), read(root, tmp_path / "store")
    assert same(first, in_memory) and first.content_hash() == in_memory.content_hash()
    assert first.sigma() == in_memory.sigma() and in_memory.sigma_data is None
    decoded = []
    real = folder.pixels
    monkeypatch.setattr(folder, "pixels", lambda file, *args: decoded.append(file) or real(file, *args))
    again = read(root)
    assert not decoded and same(first, again) and again.notes == first.notes
    assert all(torch.equal(again.labels[split], first.labels[split]) for split in SPLITS)
    assert read(root, flip=True).flip and not decoded
    for change in (lambda: write(root, "cat/new.png", seed=5), lambda: write(root, "cat/new.png", seed=6)):
        change()
        assert not same(first, read(root)) and len(decoded) == 19
        decoded.clear()
    read(root, image_size=4)
    assert len(decoded) == 19


@pytest.mark.parametrize("damage", ["images.npy", "about.json", "labels.npy"])
def test_a_file_that_is_not_whole_is_made_anew(tmp_path, damage):
    root = write(tmp_path / "photos", *numbered("cat", 9))
    first, kept = read(root, tmp_path), tmp_path / "data"
    whole = first.images["train"].clone()
    (file,) = kept.glob(f"*/{damage}")
    file.write_bytes(file.read_bytes()[:100])
    assert torch.equal(read(root).images["train"], whole)
    assert json.loads(next(kept.glob("*/about.json")).read_text())["num_classes"] == 1


def test_several_that_begin_together_decode_once(tmp_path, monkeypatch):
    root, kept = write(tmp_path / "photos", *numbered("cat", 30)), tmp_path / "data"
    decoded = []
    real = folder.pixels
    monkeypatch.setattr(folder, "pixels", lambda file, *args: decoded.append(file) or real(file, *args))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: read(root, tmp_path), range(4)))
    assert len(decoded) == 30 and all(same(found[0], one) for one in found)
    assert [path.name for path in kept.iterdir()] == [next(kept.iterdir()).name], "nothing half-made is left"


def test_where_nothing_can_be_written_the_images_are_in_memory(tmp_path):
    root = write(tmp_path / "photos", *numbered("cat", 9))
    (tmp_path / "file").write_text("")
    data = read(root, tmp_path / "file")
    assert sizes(data) == (7, 1, 1) and "not kept in" in data.notes[-1]


def test_more_than_the_memory_is_streamed(tmp_path):
    root = write(tmp_path / "photos", *numbered("cat", 9))
    bytes_of_all = 9 * 3 * 8 * 8
    for memory, streamed in ((bytes_of_all / 1e9, False), ((bytes_of_all - 1) / 1e9, True)):
        assert read(root, tmp_path, memory=memory).streamed == streamed


def test_a_store_is_made_only_for_what_can_be_read(tmp_path):
    def refuse(allocate):
        allocate((3, 1, 2, 2), np.uint8)
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        cache.keep_in(tmp_path / "a" / "b")
        cache.kept("named", 1.0, refuse)
    assert not any(tmp_path.iterdir())
