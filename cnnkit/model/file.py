"""The model file: weights in safetensors, with a header for everything that prediction, evaluation and export need.

The header holds one JSON document under the key ``cnnkit``, and the digests of the file. The file contains no pickle.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from cnnkit.architecture import Architecture, options
from cnnkit.errors import CnnkitError, ModelFileError, PluginError
from cnnkit.files import open_regular, whole_file
from cnnkit.model.facts import HEADER_KEY, check_digests, seal
from cnnkit.model.header import ModelHeader, read_model_header
from cnnkit.model.proof import TOLERANCE, logit_difference, missing_package, proof_logits, versions_and_remedy
from cnnkit.model.weights import unfold_buffers, with_aliases, without_aliases
from cnnkit.registry import Entry, fence, load_architecture

if TYPE_CHECKING:
    from torch import Tensor, nn

# An option of at most this many times its default makes no network that is much larger than the default one.
MAX_GROWTH = 4
MAX_PROBLEM_LENGTH = 400  # characters of an error of torch


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
    """Write `header` and the weights of `module` to `path`; the file appears there only when it is complete.

    A tensor with several names is written once; `load_model` gives the tensor all its names.
    """
    _write(path, without_aliases(module.state_dict()), header)


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

    Raises `ModelFileError` as `read_header` does, if the weights do not fit the architecture, and if the network computes other
    logits than the header records. Raises `PluginError` if the architecture is not installed.
    """
    file = Path(path)
    header, weights = _open(file)
    architecture, entry = _find_architecture(file, header)
    _check_options(file, header, architecture, entry, weights)
    try:
        module = architecture.build(len(header.classes), header.preprocessing.channels, **header.options)
    except CnnkitError as error:
        raise _misfit(file, header, entry, str(error)) from error
    try:
        with fence(entry, "does not accept its weights", allowed=(RuntimeError,)):
            unfold_buffers(module)
            module.load_state_dict(with_aliases(weights, module))
            module.eval()
    except RuntimeError as error:
        raise _misfit(file, header, entry, str(error)) from error
    _check_logits(file, header, entry, module)
    return Model(module, header, file)


def _find_architecture(file: Path, header: ModelHeader) -> tuple[Architecture, Entry]:
    """Return the architecture of `header`; raises `PluginError`, which names the package to install, if there is none."""
    try:
        return load_architecture(header.arch)
    except PluginError as error:
        raise PluginError(f"{file}: {missing_package(header)} ({error})") from error


def _check_logits(file: Path, header: ModelHeader, entry: Entry, module: nn.Module) -> None:
    """Raise `ModelFileError` if `module` computes other logits than `header` records; older files record none."""
    if header.proof is None:
        return
    with fence(entry, "fails on a test image", allowed=(MemoryError,)):
        found = proof_logits(module, header.preprocessing)
    difference = logit_difference(header.proof, found)
    if difference > TOLERANCE:
        how = f"by {difference:.2g} of the largest one; {TOLERANCE:g} is allowed" if found else "they are no numbers"
        raise ModelFileError(
            f"{file}: the network {header.arch!r} computes other logits than after its training ({how}), so its predictions would "
            f"differ silently; {versions_and_remedy(header, entry)}"
        )


def _check_options(file: Path, header: ModelHeader, architecture: Architecture, entry: Entry, weights: dict[str, Tensor]) -> None:
    """Raise `ModelFileError` unless the options of `header` are those of `build`, and make a network of the size of the `weights`.

    A network much larger than the default one is outlined first, which takes no memory.
    """
    known = options(architecture, header.arch)
    for name, value in header.options.items():
        kinds = (int, float) if name in known and known[name].type is float else (known[name].type,) if name in known else ()
        if type(value) not in kinds:
            listed = ", ".join(f"{option.name} ({option.type.__name__})" for option in known.values()) or "none"
            raise _misfit(file, header, entry, f"the header has the option {name}={value!r:.60}; its options: {listed}")
    sizes = ((known[name].default, value) for name, value in header.options.items() if type(value) is int)
    if all(value <= max(MAX_GROWTH * default, 2 * MAX_GROWTH) for default, value in sizes if type(default) is int):
        return
    try:
        with torch.device("meta"):
            outline = architecture.build(len(header.classes), header.preprocessing.channels, **header.options)
    except CnnkitError as error:
        raise _misfit(file, header, entry, str(error)) from error
    shapes = {name: tensor.shape for name, tensor in outline.state_dict().items()}
    given = with_aliases(weights, outline)
    if wrong := [name for name, shape in shapes.items() if name not in given or given[name].shape != shape]:
        raise _misfit(file, header, entry, f"its options make a network with other weights, such as {wrong[0]} {tuple(shapes[wrong[0]])}")


def _misfit(file: Path, header: ModelHeader, entry: Entry, problem: str) -> ModelFileError:
    reason = shorten(problem, MAX_PROBLEM_LENGTH, placeholder=" …")  # torch names every tensor, one a line
    return ModelFileError(f"{file}: the weights do not fit {header.arch!r}; {versions_and_remedy(header, entry)} ({reason})")


def _write(path: Path, weights: dict[str, Tensor], header: ModelHeader) -> None:
    parts = seal(save(weights, {HEADER_KEY: header.model_dump_json()}))
    with whole_file(path) as part, part.open("wb") as file:
        file.writelines(parts)


def _open(path: Path) -> tuple[ModelHeader, dict[str, Tensor]]:
    if not path.is_file():
        raise ModelFileError(f"{path}: no such model file; name a run, its folder or a best.safetensors (list runs with: cnnkit runs)")
    try:
        check_digests(path)
        with open_regular(path), safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(HEADER_KEY)
            weights = {name: file.get_tensor(name) for name in file.keys()} if text else {}  # noqa: SIM118 (no dict)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:  # RuntimeError: a type of numbers unknown to this torch
        raise ModelFileError(f"{path}: not a cnnkit model file ({error}); expected a best.safetensors written by cnnkit train") from error
    if text is None:
        raise ModelFileError(f"{path}: bare weights without a cnnkit header; to start a training from them: cnnkit train --weights {path}")
    return read_model_header(text, path), weights
