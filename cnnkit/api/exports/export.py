"""Export of a model to one file, which is kept only if its predictions on real images equal those of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnkit.api.inference.inputs import input_of
from cnnkit.api.inference.prepared import decoded_images
from cnnkit.api.inference.samples import Samples, other_samples, run_samples, spread
from cnnkit.api.inference.target import ModelName, Target, find_target
from cnnkit.data.image import decode_image
from cnnkit.data.source import VAL
from cnnkit.engine.runtime import choose_device
from cnnkit.errors import ConfigError, ModelFileError, counted
from cnnkit.exporters.opening import load_exporter
from cnnkit.exporters.parity import Certificate, Parity, export_checked, sample_photos
from cnnkit.exporters.protocol import Exporter, ExportOptions
from cnnkit.exporters.sidecars import write_sidecars
from cnnkit.exporters.triton import write_repository
from cnnkit.files import check_writable
from cnnkit.model.file import Model, load_model

if TYPE_CHECKING:
    from cnnkit.api.exports.int8_result import Int8Export

PARITY_IMAGES = 256  # the number of images in the parity check, spread over the split
DEFAULT_EXPORTER = "onnx"
# The share of val images that int8 may cost. It is below the half-width of the interval of most val splits, which is 2 % at 1,000 images.
MAX_LOSS = 0.01

Tell = Callable[[str], object]


@dataclass(frozen=True, repr=False)
class Export:
    """An exported file, its certificate, and the description of the images on which the parity was measured.

    `int8` is the result of a quantisation, `repository` the folder of the model in a Triton repository, if these were asked for.
    """

    target: Target
    path: Path
    certificate: Certificate
    images: str
    options: ExportOptions
    int8: Int8Export | None = None
    repository: Path | None = None

    def __repr__(self) -> str:
        parity = self.parity
        difference = f"largest difference of a probability {parity.max_abs_probability_difference:.1e}"
        return f"Export({str(self.path)!r}, parity on {counted(parity.n)}: top-1 agreement {parity.top1_agreement:.4f}, {difference})"

    @property
    def parity(self) -> Parity:
        """The parity on real images."""
        return self.certificate.real

    def to_dict(self) -> dict[str, Any]:
        """Return the document of ``export --json``."""
        found: dict[str, Any] = {"path": str(self.path), "images": self.images, **self.certificate.to_dict()}
        found |= {"input": self.options.input, "output": self.options.output, "half": self.options.half}
        if self.int8 is not None:
            found["int8"] = self.int8.to_dict()
        if self.repository is not None:
            found["triton"] = str(self.repository)
        return found


def export(  # noqa: PLR0913 - one argument per flag of the command
    model: ModelName = None,
    *,
    to: str = DEFAULT_EXPORTER,
    data: str | None = None,
    out: str | Path | None = None,
    input: str | None = None,  # noqa: A002 (the flag)
    output: str | None = None,
    half: bool = False,
    opset: int | None = None,
    int8: bool = False,
    max_loss: float = MAX_LOSS,
    triton: str | Path | None = None,
    device: str = "auto",
    tell: Tell = str,
) -> Export:
    """Export a model with the exporter `to`, check the file on validation images and keep it with the files beside it.

    The file goes to ``export/`` of the run directory, or to `out`, a file or a folder. `input`, `output`, `half` and `opset` are choices
    of the exporter. `int8` also writes a quantised file, kept if it costs at most `max_loss` in accuracy. `triton` is the folder of a
    model repository. A model file without a run is checked on `data`, or on crops of scikit-learn's two sample photographs. The model
    runs on `device` in that check, and `tell` gets the steps. Raises `CheckFailedError` and keeps no file if its predictions differ from
    the model's, `ConfigError` for a choice that the exporter does not offer, and `ModelFileError` if `model` is not a model file.
    """
    target = find_target(model)
    if target.path.suffix != ".safetensors":
        raise ModelFileError(f"--model {target.path}: this file is exported already; cnnkit exports model files, such as best.safetensors")
    computing, exporter = choose_device(device), load_exporter(to)
    options = exporter.options(input=input, output=output, half=half, opset=opset)
    _check_extras(target, to, data, int8=int8, half=half, triton=triton is not None)
    tell(f"loading {target.path}")
    trained = load_model(target.path)
    folder = target.run.export if target.run else target.path.parent
    path = folder / f"model{exporter.suffix}" if out is None else _named_file(Path(out), exporter)
    check_writable(path.parent)
    if triton is not None:
        check_writable(Path(triton), "--triton")
    images, description = _images(target, trained, data)
    certificate = export_checked(trained, exporter, path, images, options=options, device=computing, tell=tell)
    _describe(path, trained, exporter, options, certificate, description)
    found = Export(target, path, certificate, description, options)
    if int8:
        from cnnkit.api.exports.int8 import export_int8

        found = replace(found, int8=export_int8(target, path, trained, options, data, max_loss, computing, tell))
    if triton is None:
        return found
    repository = write_repository(Path(triton), target.name, path, trained.header, options)
    if found.int8 and found.int8.path:
        write_repository(Path(triton), f"{target.name}-int8", found.int8.path, found.int8.header, found.int8.options)
    return replace(found, repository=repository)


def _named_file(out: Path, exporter: Exporter) -> Path:
    """Return the file that ``--out`` names, which is in a folder that exists already; raise `ConfigError` for another suffix.

    The suffix of a file tells every command which exporter opens it.
    """
    if out.is_dir():
        return out / f"model{exporter.suffix}"
    if out.suffix.lower() != exporter.suffix.lower():
        named = out.with_suffix(exporter.suffix)
        raise ConfigError(f"--out {out}: a file of the exporter {exporter.name!r} ends in {exporter.suffix}; type --out {named}")
    return out


def _check_extras(target: Target, to: str, data: str | None, *, int8: bool, half: bool, triton: bool) -> None:
    """Raise `ConfigError` for ``--int8`` and ``--triton`` where they have no meaning."""
    for flag, given in (("--int8", int8), ("--triton", triton)):
        if given and to != DEFAULT_EXPORTER:
            raise ConfigError(f"{flag}: the exporter {to!r} has none; it belongs to onnx: leave out --to")
    if int8 and half:
        raise ConfigError("--int8 --half: int8 starts from the weights in 32 bits; leave out one of the two")
    if int8 and target.run is None and data is None:
        raise ConfigError(
            f"--int8: {target.path} lies in no run directory, so its training images are unknown; name labelled images with --data, "
            "or the run: --model RUN"
        )


def _images(target: Target, trained: Model, data: str | None) -> tuple[Iterator[NDArray[np.uint8]], str]:
    """Return the real images of the parity check and their description."""
    if data is not None:
        samples: Samples | None = other_samples(data, None, trained.header.classes)
    else:
        samples = run_samples(target.run, VAL) if target.run else None
    if samples is None:
        return iter(sample_photos(PARITY_IMAGES // 4)), "crops of scikit-learn's sample photographs"
    return _decoded(samples, trained.header.preprocessing.draft_side), f"{samples.split} images of {samples.source.name}"


def _describe(path: Path, trained: Model, exporter: Exporter, options: ExportOptions, certificate: Certificate, images: str) -> None:
    """Write the files beside the exported file `path`."""
    document = {**certificate.to_dict(), "images": images}
    write_sidecars(path, trained.header, exporter, options, exporter.open(path), decode_image, document)


def _decoded(samples: Samples, draft_side: int | None) -> Iterator[NDArray[np.uint8]]:
    """Yield up to `PARITY_IMAGES` images, evenly spread over `samples` and decoded with `draft_side`; unreadable images are left out."""
    given = [input_of(samples.source, record) for record in spread(samples.records, PARITY_IMAGES)]
    return (image.pixels for image in decoded_images(given, draft_side) if image.pixels is not None)
