"""The model file: weights in safetensors, with a header for everything that prediction, evaluation and export need.

The header holds one JSON document under the key ``cnnkit``, and the digests of the file. The file contains no pickle.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from cnnkit.errors import ModelFileError
from cnnkit.files import whole_file
from cnnkit.model.facts import HEADER_KEY, check_digests, seal
from cnnkit.model.preprocessing import Preprocessing
from cnnkit.model.rules import Rules
from cnnkit.registry import load_architecture

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

FORMAT = 1


class ModelHeader(Rules, BaseModel):
    """The header of a model file: the description of the model beside its weights.

    `arch` and `options` rebuild the network. `classes` are in index order. `versions` are the package versions of the
    training. `training` describes it: epoch, monitored metric and its value, seed, data fingerprint. The base class
    `Rules` adds the temperature and the limits of the model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = Field(default=FORMAT, ge=1, le=FORMAT)
    arch: str
    options: dict[str, bool | int | float | str]
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    versions: dict[str, str] = {}
    training: dict[str, Any] = {}


@dataclass(frozen=True)
class Model:
    """A built and trained network with its header; `module` maps images (N, C, S, S) to logits (N, K), in eval mode."""

    module: nn.Module
    header: ModelHeader
    path: Path

    def to(self, device: torch.device) -> Model:
        """Move the network to `device`; return the same model."""
        self.module.to(device)
        return self


def save_model(path: Path, module: nn.Module, header: ModelHeader) -> None:
    """Write `header` and the weights of `module` to `path`; the file appears there only when it is complete."""
    _write(path, {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}, header)


def rewrite_header(path: Path, header: ModelHeader) -> None:
    """Replace the header of the model file `path` and keep its weights; the old file stays until the new one is complete.

    Raises `ModelFileError` as `read_header` does.
    """
    _write(path, _open(path)[1], header)


def read_header(path: Path) -> ModelHeader:
    """Return the header of the model file `path`.

    Raises `ModelFileError` if the file is missing, not a safetensors file, without a header, or of a newer format.
    """
    return _open(path)[0]


def load_model(path: str | Path) -> Model:
    """Load the model file `path` and return the model; no other file is needed.

    Raises `ModelFileError` as `read_header` does, and if the weights do not fit the architecture. Raises `PluginError` if
    the architecture is not installed.
    """
    file = Path(path)
    header, weights = _open(file)
    architecture, entry = load_architecture(header.arch)
    module = architecture.build(len(header.classes), header.preprocessing.channels, **header.options)
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelFileError(
            f"{file}: the weights do not fit {header.arch!r} of {entry.origin}; the file was written with "
            f"{header.versions.get(entry.package, 'another version')}: {error}"
        ) from error
    return Model(module.eval(), header, file)


def _write(path: Path, weights: dict[str, Tensor], header: ModelHeader) -> None:
    parts = seal(save(weights, {HEADER_KEY: header.model_dump_json()}))
    with whole_file(path) as part, part.open("wb") as file:
        file.writelines(parts)


def _open(path: Path) -> tuple[ModelHeader, dict[str, Tensor]]:
    if not path.is_file():
        raise ModelFileError(f"{path}: no such model file; name a run, its folder or a best.safetensors (list runs with: cnnkit runs)")
    try:
        check_digests(path)
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(HEADER_KEY)
            weights = {name: file.get_tensor(name) for name in file.keys()} if text else {}  # noqa: SIM118 (no dict)
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{path}: not a cnnkit model file ({error}); expected a best.safetensors written by cnnkit train") from error
    if text is None:
        raise ModelFileError(f"{path}: bare weights without a cnnkit header; to start a training from them: cnnkit train --weights {path}")
    try:
        return ModelHeader.model_validate_json(text), weights
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'header'}: {one['msg']}" for one in error.errors())
        raise ModelFileError(
            f"{path}: this version of cnnkit cannot read the header; it knows formats up to {FORMAT} ({wrong}); "
            f"for a file of a newer cnnkit, type: pip install --upgrade cnnkit"
        ) from error
