"""The files beside an exported file: description, golden images, a script, and parity; each written whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnkit.exporters.description import describe
from cnnkit.exporters.golden import CREDIT, Decoder, golden_files
from cnnkit.exporters.protocol import Exporter, ExportOptions
from cnnkit.files import fingerprint, remove_file, write_bytes, write_json, write_text
from cnnkit.model.classifier import Classifier
from cnnkit.model.header import ModelHeader

PLAIN = "model"  # the stem of a file whose sidecars have short names
PLAIN_SUFFIX = ".onnx"
SIDECAR_SUFFIXES = (".json", ".py")  # of the files beside an exported file
# Kernels of onnxruntime for other processors sum in another order: ten times the largest difference from torch, 2.4e-5. With fewer bits
# the difference of two kernels may be that of a level.
GOLDEN_TOLERANCE, GOLDEN_TOLERANCE_FEW_BITS = 3e-4, 2e-2


@dataclass(frozen=True)
class Sidecars:
    """The paths beside an exported file.

    ``model.onnx`` has ``model.json``, ``parity.json``, ``golden/`` and ``infer.py``. Other names keep theirs apart: ``leaf.onnx`` has
    ``leaf.json``, ``leaf-parity.json`` and so on, ``model.tflite`` has ``model-tflite.json``.
    """

    file: Path

    @property
    def base(self) -> str:
        """The start of the names."""
        suffix = self.file.suffix.lower()
        return self.file.stem if suffix == PLAIN_SUFFIX else f"{self.file.stem}-{suffix.removeprefix('.')}"

    @property
    def description(self) -> Path:
        """The document about the file."""
        return self.file.with_name(f"{self.base}.json")

    @property
    def parity(self) -> Path:
        """The certificate."""
        return self._named("parity.json")

    @property
    def golden(self) -> Path:
        """The folder of the golden images."""
        return self._named("golden")

    @property
    def script(self) -> Path:
        """The script that runs the file."""
        return self._named("infer.py")

    def _named(self, name: str) -> Path:
        return self.file.with_name(name if self.base == PLAIN else f"{self.base}-{name}")


def write_sidecars(
    path: Path,
    header: ModelHeader,
    exporter: Exporter,
    options: ExportOptions,
    classifier: Classifier,
    decode: Decoder,
    parity: Mapping[str, Any],
) -> Sidecars:
    """Write the files beside the exported file `path`, which `classifier` runs; return their paths.

    `decode` is the decoder of image files, `parity` the content of the certificate. The description comes last: its SHA-256 tells whether
    all files belong to each other.
    """
    found = Sidecars(path)
    sha256, tolerance = fingerprint(path), GOLDEN_TOLERANCE_FEW_BITS if options.half or options.int8 else GOLDEN_TOLERANCE
    write_json(found.parity, {**parity, "file": path.name, "sha256": sha256, "input": options.input, "output": options.output})
    files, entries = golden_files(classifier, decode, header.preprocessing, options.input)
    for file in files:
        write_bytes(found.golden / file.name, file.content)
    for entry in entries:
        if "canvas" not in entry:
            remove_file(found.golden / f"{entry['file']}.canvas")  # of an older export with another input
    write_json(
        found.golden / "golden.json", {"file": path.name, "sha256": sha256, "credit": CREDIT, "tolerance": tolerance, "images": entries}
    )
    if exporter.script is not None:
        names = {"description": found.description.name, "golden": found.golden.name}
        write_text(found.script, exporter.script(header.preprocessing, options, **names, tolerance=tolerance))
    document = describe(header, options, exporter, file=path.name, sha256=sha256, size=path.stat().st_size)
    write_json(found.description, document)
    return found
