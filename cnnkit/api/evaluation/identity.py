"""The identity of an evaluation: the model file, the images and the views, which together name the folder of its files."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from cnnkit.run_dir import RunDir

MAX_NAME_LENGTH = 40  # of the names of data or classes in a folder name: most file systems allow 255 bytes in all
HASH_LENGTH = 8  # 32 bits, so that two of 1,000 evaluations of a run share a folder with p < 0.0002
_UNSAFE = re.compile(r"[^\w.+-]+")


@dataclass(frozen=True)
class Images:
    """The images of an evaluation: a `split` of the run, or of other `data` with the fingerprint `sha256` of the measured images.

    `classes` are the classes that the evaluation was restricted to; empty for all. `data` is empty for the images of the run.
    """

    split: str
    classes: tuple[str, ...] = ()
    data: str = ""
    sha256: str = ""

    def label(self, *suffixes: str) -> str:
        """Return a readable folder name that ends with `suffixes`; a hash tells other data and parts of a split apart."""
        data = Path(self.data).resolve().name if Path(self.data).exists() else self.data
        parts = [*([_safe(data)] if self.data else []), self.split, *([_names(self.classes)] if self.classes else []), *suffixes]
        if not self.data and not self.classes:
            return "-".join(parts)
        identity = (
            str(Path(self.data).resolve()) if Path(self.data).exists() else self.data,
            self.sha256,
            self.split,
            *sorted(self.classes),
        )
        return "-".join([*parts, short_hash("\0".join((*identity, "", *suffixes)))])


def evaluation_folder(run: RunDir, model: Path, images: Images, *, tta: bool = False) -> Path:
    """Return the folder of the evaluation of `model`, a file of `run`, on `images`.

    The plain evaluation of best.safetensors on a split of the run is in ``eval/<split>``, that of export/model.onnx in
    ``eval/<split>-model.onnx``. Every other identity has another folder.
    """
    suffixes = ["tta"] if tta else []
    file, folder = model.resolve(), run.path.resolve()
    if file != run.best.resolve():
        suffixes.append(file.name)
        if file.parent != run.export.resolve():
            suffixes.append(short_hash(str(file.relative_to(folder)) if file.is_relative_to(folder) else str(file)))
    return run.evaluation(images.label(*suffixes))


def short_hash(text: str) -> str:
    """Return the first characters of the SHA-256 of `text`."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:HASH_LENGTH]


def _safe(name: str) -> str:
    """Return `name` without characters that a file system or a shell may refuse, cut to `MAX_NAME_LENGTH`."""
    return _UNSAFE.sub("_", name)[:MAX_NAME_LENGTH].strip(".") or "data"


def _names(classes: tuple[str, ...]) -> str:
    joined = "+".join(map(_safe, sorted(classes)))
    return joined if len(joined) <= MAX_NAME_LENGTH else f"{len(classes)}-classes"
