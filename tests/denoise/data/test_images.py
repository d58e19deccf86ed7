"""Data sets: splits, range, hashes, idx files, and batches."""

import copy
import gzip
import hashlib
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from denoise.config import compose
from denoise.data import idx, load
from denoise.data.batches import Batches
from denoise.data.digits import digits
from denoise.data.images import Images, check, content_hash, floats
from denoise.data.split import reorder, resize, split
from denoise.errors import UserError

FASHION = Path(idx.FASHION_MNIST)
ROWS = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "t10k": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def numbered(count: int) -> Images:
    """A data set in which image and label number i hold i."""
    x = torch.arange(count)
    return Images({"train": x.float().view(-1, 1, 1, 1)}, {"train": x}, num_classes=count)


# ---------------------------------------------------------------- data sets


def test_digits_are_split_whole():
    from sklearn.datasets import load_digits

    data = digits()
    assert {name: len(x) for name, x in data.images.items()} == {"train": 1257, "validation": 270, "test": 270}
    assert data.images["train"].shape[1:] == (1, 8, 8) and data.images["train"].dtype == torch.float32
    assert {len(data.labels[name]) - len(data.images[name]) for name in data.images} == {0}
    together = torch.cat([data.images[n] for n in data.images]).flatten(1).double()
    pairs = torch.cat([together, torch.cat([data.labels[n] for n in data.images])[:, None]], dim=1)
    bunch = load_digits()
    wanted = np.concatenate([bunch.data / 8 - 1, bunch.target[:, None]], axis=1)
    assert sorted(map(tuple, pairs.tolist())) == sorted(map(tuple, wanted.tolist()))


@given(st.integers(10, 200), st.floats(0, 0.4), st.floats(0, 0.4))
def test_a_split_is_a_permutation_and_always_the_same(count, validation, test):
    x = torch.arange(count)
    one = split(x.view(-1, 1, 1, 1).clone(), x, (validation, test), num_classes=2)
    parts = torch.cat([one.labels[name] for name in ("train", "validation", "test")])
    assert sorted(parts.tolist()) == list(range(count))
    assert len(one.labels["validation"]) == round(validation * count) and len(one.labels["test"]) == round(test * count)
    again = split(x.view(-1, 1, 1, 1).clone(), x, (validation, test), num_classes=2)
    assert torch.equal(one.labels["train"], again.labels["train"])
    assert torch.equal(one.images["train"].flatten(), one.labels["train"])


@pytest.mark.parametrize("name", ["digits", "fashion_mnist"])
def test_range_and_sigma_data(name):
    if name == "fashion_mnist" and not FASHION.exists():
        pytest.skip("Debian's dataset-fashion-mnist is not here")
    cfg = compose.compose([f"data={name}"]).cfg.data
    data = load(cfg)
    assert data.num_classes == 10 and data.shape == (1, cfg.image_size, cfg.image_size)
    pixels = {name: floats(images) for name, images in data.images.items()}
    for images, labels in zip(pixels.values(), data.labels.values(), strict=True):
        assert -1 <= images.min() and images.max() <= 1 and labels.unique().tolist() == list(range(10))
    assert pixels["train"].min() == -1 and pixels["train"].max() == 1
    assert cfg.sigma_data == pytest.approx(pixels["train"].double().std().item(), rel=0.01)


def test_fashion_mnist_is_whole():
    if not FASHION.exists():
        pytest.skip("Debian's dataset-fashion-mnist is not here")
    data = load(compose.compose(["data=fashion_mnist"]).cfg.data)
    assert {name: len(x) for name, x in data.images.items()} == {"train": 51000, "validation": 9000, "test": 10000}


def test_hash_is_of_the_content():
    """The golden value says that the split, too, is the same on every machine."""
    cfg = compose.compose().cfg.data
    assert content_hash(cfg) == digits().content_hash()
    assert content_hash(compose.compose(["data.batch_size=7"]).cfg.data) == content_hash(cfg)
    assert content_hash(compose.compose(["data.image_size=4"]).cfg.data) != content_hash(cfg)
    assert content_hash(cfg).startswith(GOLDEN_DIGITS)


GOLDEN_DIGITS = "0917ab1a7c940e7c"


BYTES = torch.arange(256, dtype=torch.uint8)


def test_bytes_are_the_floats_that_they_were():
    assert torch.equal(floats(BYTES), BYTES.float() / 127.5 - 1)
    assert floats(BYTES).double().numpy() == pytest.approx([k / 127.5 - 1 for k in range(256)], abs=1e-7)
    kept = floats(BYTES)
    assert floats(kept) is kept


@given(st.integers(1, 40), st.sampled_from([1, 2, 3]), st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_a_hash_is_of_what_a_network_takes(count, channels, height, width):
    """Of bytes and of floats the same, and the one that was taken of the whole array at once."""
    pixels = torch.arange(count * channels * height * width).view(count, channels, height, width).byte()
    labels = torch.arange(count) % 3
    parts = {"train": slice(0, count), "validation": slice(0, 1), "test": slice(0, 0)}
    digest = hashlib.sha256()
    for name, part in parts.items():
        for tensor in ((pixels.float() / 127.5 - 1)[part], labels[part]):
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode() + tensor.numpy().tobytes())
    for form in (pixels, floats(pixels)):
        data = Images({n: form[p] for n, p in parts.items()}, {n: labels[p] for n, p in parts.items()}, 3)
        assert data.content_hash() == digest.hexdigest()


def test_a_hash_is_of_conditions_too():
    data, more = numbered(3), {"text": {name: torch.arange(3.0) for name in ("train", "validation", "test")}}
    data = Images(*({n: by["train"] for n in more["text"]} for by in (data.images, data.labels)), num_classes=3)
    hashes = {replace(data, conditions=c).content_hash() for c in ({}, more, {"other": more["text"]})}
    other = more["text"] | {"test": torch.arange(3.0) + 1}
    assert len(hashes | {replace(data, conditions={"text": other}).content_hash()}) == 4


@given(st.integers(0, 60), st.randoms())
def test_rows_are_put_in_order_in_place(count, random):
    order = list(range(count))
    random.shuffle(order)
    rows = np.arange(2 * count).reshape(count, 2)
    wanted = rows[order]
    reorder(rows, order)
    assert (rows == wanted).all()


def test_a_split_holds_the_images_once():
    images = torch.arange(40.0).view(40, 1, 1, 1)
    data = split(images, torch.arange(40), (0.2, 0.1), num_classes=40)
    assert {x.untyped_storage().data_ptr() for x in data.images.values()} == {images.untyped_storage().data_ptr()}


@pytest.mark.parametrize("size", [4, 8, 12, 16])
def test_another_image_size(size):
    data = digits(size)
    assert data.shape == (1, size, size) and data.images["train"].abs().max() <= 1
    with pytest.raises(UserError, match="data.image_size=0"):
        resize(data.images["train"], 0)


def test_a_second_load_is_the_same_object():
    assert load(compose.compose().cfg.data) is load(compose.compose(["data.batch_size=3"]).cfg.data)


# ---------------------------------------------------------------- idx files


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write(folder: Path, packed: bool) -> dict[str, np.ndarray]:
    """A small Fashion-MNIST: 40 training images of 6x6, 12 for the test."""
    draw = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 40), ("t10k", 12)):
        images, labels = ROWS[part]
        arrays[images] = draw.integers(0, 256, (count, 6, 6))
        arrays[labels] = np.arange(count) % 10
    for name, array in arrays.items():
        body = idx_bytes(array)
        (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(body) if packed else body)
    return arrays


@pytest.mark.parametrize("packed", [True, False], ids=["gz", "plain"])
def test_idx_files_are_read(tmp_path, packed):
    arrays = write(tmp_path, packed)
    data = idx.fashion_mnist(str(tmp_path), image_size=6)
    assert {name: len(x) for name, x in data.images.items()} == {"train": 34, "validation": 6, "test": 12}
    wanted = torch.tensor(arrays[ROWS["t10k"][0]])[:, None] / 127.5 - 1
    torch.testing.assert_close(floats(data.images["test"]), wanted.float())
    assert data.labels["test"].tolist() == arrays[ROWS["t10k"][1]].tolist()
    assert idx.fashion_mnist(str(tmp_path), image_size=6).content_hash() == data.content_hash()


@pytest.mark.parametrize("missing", [name for rows in ROWS.values() for name in rows])
def test_missing_files_are_refused_with_both_ways_to_get_them(tmp_path, missing):
    write(tmp_path, packed=False)
    (tmp_path / missing).unlink()
    with pytest.raises(UserError) as refusal:
        idx.fashion_mnist(str(tmp_path))
    text = str(refusal.value)
    assert missing in text and "apt-get install dataset-fashion-mnist" in text and "data.root=FOLDER" in text


def cut(raw: bytes) -> bytes:
    return raw[: len(raw) // 2]


def scratch(raw: bytes) -> bytes:
    return raw[:10] + bytes(byte ^ 0xFF for byte in raw[10:40]) + raw[40:]  # behind gzip's own header


@pytest.mark.parametrize("packed", [True, False], ids=["gz", "plain"])
@pytest.mark.parametrize("damage", [cut, scratch, lambda raw: b"", lambda raw: b"<html>not found</html>"])
def test_a_damaged_file_is_refused_by_name(tmp_path, packed, damage):
    if damage is scratch and not packed:
        pytest.skip("bytes without a checksum can be anything")
    write(tmp_path, packed)
    path = tmp_path / (ROWS["train"][0] + ".gz" * packed)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=f"{path.name}.*fetch it again"):
        idx.fashion_mnist(str(tmp_path))


IMAGES, LABELS = ROWS["train"]
FILES = {
    "not square": (IMAGES, np.zeros((40, 28, 20)), "28x20 pixels are no squares; pad"),
    "no pixels": (IMAGES, np.zeros((40, 0, 0)), "0x0 pixels are no squares"),
    "labels for images": (IMAGES, np.arange(40) % 10, f"{IMAGES} is of shape 40, not .images, rows, columns."),
    "images for labels": (LABELS, np.zeros((40, 6, 6)), f"{LABELS} is of shape 40x6x6, not .labels."),
    "another class": (LABELS, np.arange(40), "labels are 0 to .*, but there are 10 classes; legal: 0 to 9"),
    "another class in test": (ROWS["t10k"][1], np.arange(12), "test labels are 0 to 11, but .*legal: 0 to 9"),
    "test images without labels": (ROWS["t10k"][1], np.zeros(0), "12 images but 0 labels"),
}


@pytest.mark.parametrize("case", FILES)
def test_idx_files_of_other_things_are_refused(tmp_path, case):
    name, array, said = FILES[case]
    write(tmp_path, packed=False)
    (tmp_path / name).write_bytes(idx_bytes(array))
    with pytest.raises(UserError, match=said) as refusal:
        load(compose.compose(["data=fashion_mnist", f"data.root={tmp_path}", "data.image_size=6"]).cfg.data)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_too_few_images_are_refused(tmp_path, count):
    write(tmp_path, packed=True)
    for name, array in ((IMAGES, np.zeros((count, 6, 6))), (LABELS, np.zeros(count))):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx_bytes(array)))
    with pytest.raises(UserError, match="no (train|validation) images"):
        load(compose.compose(["data=fashion_mnist", f"data.root={tmp_path}", "data.image_size=6"]).cfg.data)


@given(body=st.binary(max_size=64), header=st.tuples(*[st.integers(0, 255)] * 4), packed=st.booleans())
@example(body=b"\0" * 12, header=(0, 0, 8, 3), packed=True)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_header_that_lies_is_refused_or_true(tmp_path, body, header, packed):
    raw = bytes(header) + body
    path = tmp_path / ("file.gz" if packed else "file")
    path.write_bytes(gzip.compress(raw) if packed else raw)
    try:
        read = idx.read_idx(path)
    except UserError as refusal:
        assert path.name in str(refusal) and "fetch it again" in str(refusal)
    else:
        assert header[:3] == (0, 0, 8) and idx_bytes(read.numpy()) == raw


# ---------------------------------------------------------------- data of one's own


def own(**changed: torch.Tensor) -> Images:
    """Twelve good images a split; `train_images=...` and the like put others there."""
    names = ("train", "validation", "test")
    images = {name: changed.get(f"{name}_images", torch.linspace(-1, 1, 12 * 16).view(12, 1, 4, 4)) for name in names}
    labels = {name: changed.get(f"{name}_labels", torch.arange(12) % 3) for name in names}
    return Images(images, labels, num_classes=3)


def with_pixel(value: float) -> torch.Tensor:
    images = torch.zeros(12, 1, 4, 4)
    images[5, 0, 1, 2] = value
    return images


OWN = {
    "nan": ("images", with_pixel(float("nan")), "pixels are nan .*not finite"),
    "inf": ("images", with_pixel(float("inf")), "pixels are 0 to inf.*not finite"),
    "-inf": ("images", with_pixel(float("-inf")), "pixels are -inf to 0.*not finite"),
    "bytes in floats": ("images", 127.5 * (with_pixel(1) + 1), "pixels are 127.5 to 255, outside -1 to 1; .*127.5 - 1"),
    "doubles": ("images", with_pixel(1).double(), "torch.float64 .*give torch.float32 or torch.uint8"),
    "no channels": ("images", with_pixel(1)[:, 0], r"\(12, 4, 4\); give .*\(N, C, H, W\)"),
    "no pixels": ("images", torch.zeros(12, 1, 0, 6), r"\(1, 0, 6\): without a pixel"),
    "too few": ("images", torch.zeros(11, 1, 4, 4), "11 .* images but labels .*12"),
    "class too high": ("labels", torch.arange(12), "labels are 0 to 11, but there are 3 classes; legal: 0 to 2"),
    "class below 0": ("labels", torch.arange(12) % 3 - 1, "labels are -1 to 1, but there are 3 classes"),
    "labels in floats": ("labels", torch.zeros(12), "torch.float32 .*give torch.int64"),
    "one hot": ("labels", torch.zeros(12, 3, dtype=torch.int64), r"\(12, 3\); give torch.int64 of \(12,\)"),
}


@pytest.mark.parametrize("name", ["train", "validation", "test"])
@pytest.mark.parametrize("case", OWN)
def test_data_that_cannot_be_used_are_refused_with_the_way_on(case, name):
    what, tensor, said = OWN[case]
    with pytest.raises(UserError, match=f"data: .*{said}"):
        check(own(**{f"{name}_{what}": tensor}))


def test_splits_belong_together():
    assert check(own()).shape == (1, 4, 4)
    nothing = {"test_images": torch.zeros(0, 1, 4, 4), "test_labels": torch.zeros(0, dtype=torch.int64)}
    assert len(check(own(**nothing)).images["test"]) == 0
    with pytest.raises(UserError, match="no validation images"):
        check(own(**{key.replace("test", "validation"): value for key, value in nothing.items()}))
    with pytest.raises(UserError, match="test images are of shape .1, 5, 5., train images of others"):
        check(own(test_images=torch.zeros(12, 1, 5, 5)))
    with pytest.raises(UserError, match="no validation split; .*train, validation, test"):
        check(Images({"train": torch.zeros(3, 1, 4, 4)}, {"train": torch.arange(3)}, num_classes=3))
    with pytest.raises(UserError, match="the loader returned dict"):
        check({})  # type: ignore[arg-type]


def test_a_latent_may_be_of_any_numbers_that_are_finite():
    wide = {f"{name}_images": 9 * with_pixel(1).expand(-1, 4, -1, -1) for name in ("train", "validation", "test")}
    assert check(replace(own(**wide), kind="latent")).channels == 4
    with pytest.raises(UserError, match="pixels are 0 to 9, outside"):
        check(own(**wide))
    for value in (float("nan"), float("inf")):
        with pytest.raises(UserError, match="not finite"):
            check(replace(own(train_images=with_pixel(value)), kind="latent"))
    with pytest.raises(UserError, match="'sound'; legal: picture, latent"):
        check(replace(own(), kind="sound"))


def test_a_condition_has_a_row_for_each_image():
    text = {name: torch.zeros(12, 5) for name in ("train", "validation", "test")}
    data = check(replace(own(), conditions={"text": text}))
    text["train"][:, 0] = torch.arange(12)
    batches = Batches(data, 5, seed=0)
    found = batches.conditions(3)["text"]
    assert found.shape == (5, 5) and (found[:, 0].long() % 3).tolist() == batches(3)[1].tolist()
    with pytest.raises(UserError, match="text has .*one for each image"):
        check(replace(own(), conditions={"text": text | {"test": torch.zeros(11, 5)}}))


def test_images_and_labels_that_do_not_belong_together_are_refused(tmp_path):
    write(tmp_path, packed=False)
    (tmp_path / ROWS["train"][1]).write_bytes(idx_bytes(np.zeros(39)))
    with pytest.raises(UserError, match="40 images but 39 labels"):
        idx.fashion_mnist(str(tmp_path))


# ---------------------------------------------------------------- batches


@given(data=st.data(), count=st.integers(1, 60), seed=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_every_epoch_is_a_permutation(data, count, seed):
    batch_size = data.draw(st.integers(1, count))
    batches = Batches(numbered(count), batch_size, seed)
    steps = count // batch_size
    epochs = []
    for epoch in range(2):
        seen = [batches(epoch * steps + step) for step in range(steps)]
        assert all(torch.equal(images.flatten(), labels) for images, labels in seen)
        order = torch.cat([labels for _, labels in seen]).tolist()
        assert len(order) == len(set(order)) == steps * batch_size
        epochs.append(order)
    assert count < 10 or batch_size < 10 or epochs[0] != epochs[1]


def test_a_batch_is_found_by_its_step_alone():
    one, other = Batches(numbered(50), 8, seed=0), Batches(numbered(50), 8, seed=0)
    forward = [one(step)[1].tolist() for step in range(20)]
    backward = [other(step)[1].tolist() for step in reversed(range(20))]
    assert forward == backward[::-1]
    assert forward[0] != Batches(numbered(50), 8, seed=1)(0)[1].tolist()


def sided(count: int, **more) -> Images:
    """Images of two pixels, i at the left and 100 + i at the right, in bytes."""
    pixels = torch.stack([torch.arange(count), 100 + torch.arange(count)], dim=1).byte().view(count, 1, 1, 2)
    return Images({"train": pixels}, {"train": torch.arange(count)}, num_classes=count, **more)


def test_half_of_a_batch_is_mirrored_and_always_the_same_half():
    plain, flipped = Batches(sided(60), 20, seed=0), Batches(sided(60, flip=True), 20, seed=0)
    turned = 0
    for step in range(30):
        (x, labels), (y, same) = plain(step), flipped(step)
        swapped = (y.flip(-1) == x).flatten(1).all(1)
        assert torch.equal(labels, same) and ((y == x).flatten(1).all(1) ^ swapped).all()
        assert torch.equal(y, Batches(sided(60, flip=True), 20, seed=0)(step)[0])
        turned += int(swapped.sum())
    assert 240 < turned < 360
    assert not torch.equal(flipped(0)[0], Batches(sided(60, flip=True), 20, seed=1)(0)[0])


def test_what_is_streamed_is_the_same():
    plain, streamed = Batches(sided(50, flip=True), 8, seed=0), Batches(sided(50, flip=True, streamed=True), 8, seed=0)
    for step in [0, 1, 2, 3, 3, 2, 9, 4, 5, 6, 7, 20]:
        for x, y in zip(plain(step), streamed(step), strict=True):
            assert torch.equal(x, y)
        streamed = copy.deepcopy(streamed) if step == 4 else streamed


@pytest.mark.parametrize("batch_size", [0, -1, 51])
def test_a_batch_size_that_cannot_be_is_refused(batch_size):
    with pytest.raises(UserError, match=f"data.batch_size={batch_size}"):
        Batches(numbered(50), batch_size, seed=0)


def test_the_page_names_every_key_of_every_file():
    root = Path(__file__).resolve().parents[3]
    page = (root / "docs" / "your_data.md").read_text(encoding="utf-8")
    for path in sorted((root / "conf" / "data").glob("*.yaml")):
        keys = set(compose.compose([f"data={path.stem}"]).cfg.data) - {"_target_", "limits", "words"}
        missing = {key for key in keys if f"`data.{key}`" not in page}
        assert f"data={path.stem}" in page and not missing, f"docs/your_data.md: {path.stem} {missing}"
