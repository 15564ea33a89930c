"""Weights files: reading their tensors, and loading them into a network with a report; tensors with several names.

No pickled object is ever executed: ``.safetensors`` has none, and torch reads ``.pth`` in its weights-only mode.
"""

from __future__ import annotations

import pickle
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from cnnkit.errors import ConfigError, ModelFileError, listed
from cnnkit.model.facts import check_digests

WRAPPER_PREFIXES = ("module.", "model.", "_orig_mod.")  # of DataParallel, Lightning, torch.compile
STATE_DICT_KEYS = ("state_dict", "model", "model_state_dict")  # in the checkpoints of training scripts
MAX_TENSORS_NAMED = 3  # their names are long


@dataclass(frozen=True)
class WeightsReport:
    """The result of `load_weights`: the number of tensors `loaded`, and the names of all others.

    `skipped` tensors differ in shape between model and file (a new head). `missing` ones are only in the model,
    `unexpected` ones only in the file. `spare` holds the file's tensors for the names in `skipped`.
    """

    loaded: int
    skipped: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    spare: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])

    @property
    def fresh(self) -> frozenset[str]:
        """The names of the model's tensors that keep their initial values."""
        return frozenset((*self.skipped, *self.missing))

    def without(self, tensors: Mapping[str, Tensor]) -> WeightsReport:
        """Return the report with the loaded `tensors` as skipped ones: their shape fits, but they belong to other classes."""
        taken = {name: tensor.detach().clone() for name, tensor in tensors.items() if name not in self.fresh}
        return replace(self, loaded=self.loaded - len(taken), skipped=(*self.skipped, *taken), spare={**self.spare, **taken})

    def describe(self, source: str) -> str:
        """Return one sentence with the tensors of `source` that were loaded and those that were not."""
        rest = (
            (self.skipped, "left as built, other shape or classes"),
            (self.missing, "of the model not in the file"),
            (self.unexpected, "of the file not in the model"),
        )
        said = [f"{len(names)} {reason} ({_names(names)})" for names, reason in rest if names]
        return "; ".join([f"{source}: loaded {self.loaded} tensors", *said])


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of the weights file `path` by name, on the CPU.

    The file is ``.safetensors``, or ``.pth``/``.pt`` with a state dict, which may be wrapped as ``{"state_dict": ...}``.
    Raises `ModelFileError` if the file is missing, of another type, damaged, or holds pickled objects beside tensors.
    """
    if not path.is_file():
        raise ModelFileError(f"{path}: no such weights file; --weights takes a .safetensors, .pth or .pt file, or the word pretrained")
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        try:
            check_digests(path)
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise ModelFileError(f"{path}: not a safetensors file ({error})") from error
    if suffix not in {".pth", ".pt"}:
        raise ModelFileError(f"{path}: weights are read from .safetensors, .pth or .pt files, not {suffix or 'files without a suffix'}")
    weights = _tensors(_unpickle(path))
    if not weights:
        raise ModelFileError(f"{path}: holds no named tensors; expected a state dict, saved by: torch.save(model.state_dict(), ...)")
    return weights


def load_weights(module: nn.Module, state_dict: Mapping[str, Any]) -> WeightsReport:
    """Copy the tensors of `state_dict` into `module` where name and shape agree, and report all tensors.

    Names may carry the prefixes of common wrappers. The first convolution is adapted to one or three input channels,
    absolute position embeddings to another image size. Raises `ConfigError` if fewer than half of the model's tensors can
    be loaded.
    """
    own = module.state_dict()
    given = with_aliases({_own_name(name, own): tensor for name, tensor in _tensors(state_dict).items()}, module)
    fitted = {name: _fit(name, given[name], own[name], module) for name in own if name in given}
    usable = {name: tensor for name, tensor in fitted.items() if tensor.shape == own[name].shape}
    report = WeightsReport(
        loaded=len(usable),
        skipped=tuple(name for name in fitted if name not in usable),
        # The step counter of BatchNorm is no weight, and files of torch before 0.4.1 lack it.
        missing=tuple(name for name in own if name not in given and not name.endswith("num_batches_tracked")),
        unexpected=tuple(name for name in given if name not in own),
        spare={name: given[name] for name in fitted if name not in usable},
    )
    if 2 * report.loaded < len(own):
        raise ConfigError(
            f"the weights do not fit: {report.loaded} of the model's {len(own)} tensors are in the file with the same name and shape. "
            f"The model has {_names(own)}; the file has {_names(given)}. Was it made for another architecture? "
            "Choose the one it was made for with --arch; list them with: cnnkit archs"
        )
    module.load_state_dict(usable, strict=False)
    return report


def without_aliases(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `tensors` with each tensor under its first name alone, as contiguous tensors on the CPU that share no memory.

    Different views of one memory, such as a row of a matrix, are no aliases: each becomes a tensor of its own.
    """
    return {name: tensors[name].detach().to("cpu", copy=True).contiguous() for name in dict.fromkeys(_first_names(tensors).values())}


def with_aliases(tensors: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Return `tensors` with every name that `module` gives to one of them: where it shares a tensor, one name fills the others."""
    first = _first_names(module.state_dict())
    known = {first[name]: tensor for name, tensor in tensors.items() if name in first}
    return {**{name: known[source] for name, source in first.items() if source in known}, **tensors}


def unfold_buffers(module: nn.Module) -> None:
    """Give each element of the buffers of `module` its own memory; torch can neither average nor load an expanded tensor."""
    for part in module.modules():
        for name, buffer in part.named_buffers(recurse=False):
            if any(step == 0 and size > 1 for size, step in zip(buffer.shape, buffer.stride(), strict=True)):
                setattr(part, name, buffer.contiguous())


def _unpickle(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" not in str(error) and "global" not in str(error):
            raise ModelFileError(f"{path}: not a weights file written by torch.save, or damaged") from error
        raise ModelFileError(
            f"{path}: holds pickled Python objects beside tensors; loading them could run code, so it is refused. "
            "If you trust the file, load it in Python and save the weights alone: torch.save(model.state_dict(), 'weights.pth')"
        ) from error
    except Exception as error:  # torch.load raises many types for a damaged archive
        raise ModelFileError(f"{path}: not a weights file written by torch.save, or damaged ({type(error).__name__}: {error})") from error


def _tensors(content: object) -> dict[str, Tensor]:
    """Return the tensors of a state dict, which may be wrapped in a checkpoint."""
    if not isinstance(content, Mapping):
        return {}
    for key in STATE_DICT_KEYS:
        if isinstance(content.get(key), Mapping):
            return _tensors(content[key])
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def _own_name(name: str, own: Mapping[str, Tensor]) -> str:
    """Return the model's name of a tensor in the file: without the prefixes of wrappers, unless the model has them too."""
    while name not in own:
        prefix = next((prefix for prefix in WRAPPER_PREFIXES if name.startswith(prefix)), None)
        if prefix is None:
            break
        name = name.removeprefix(prefix)
    return name


def _fit(name: str, given: Tensor, own: Tensor, module: nn.Module) -> Tensor:
    """Return a tensor of the file adapted to the model's input channels or image size, or unchanged if that is impossible."""
    if given.shape == own.shape:
        return given
    if given.ndim == own.ndim == 4 and _differing_axes(given, own) == [1]:  # noqa: PLR2004 (O, I, kH, kW)
        # The response to a gray image stays the same as to its three equal channels, as in timm's adapt_input_conv.
        if given.shape[1] == 3 and own.shape[1] == 1:  # noqa: PLR2004 (RGB)
            return given.sum(1, keepdim=True)
        if given.shape[1] == 1 and own.shape[1] == 3:  # noqa: PLR2004 (RGB)
            return given.expand_as(own) / own.shape[1]
    if name.endswith("pos_embed") and given.ndim == own.ndim == 3 and _differing_axes(given, own) == [1]:  # noqa: PLR2004 (1, tokens, channels)
        return _resample_positions(given, own, getattr(module, "num_prefix_tokens", 0))
    return given


def _differing_axes(one: Tensor, other: Tensor) -> list[int]:
    """Return the axes in which the shapes of two tensors of equal rank differ."""
    return [axis for axis, (left, right) in enumerate(zip(one.shape, other.shape, strict=True)) if left != right]


def _resample_positions(given: Tensor, own: Tensor, prefix_tokens: int) -> Tensor:
    """Resize a square grid of position embeddings (1, tokens, channels) to the number of tokens of `own`."""
    sizes = [isqrt(tensor.shape[1] - prefix_tokens) for tensor in (given, own)]
    if any(size**2 + prefix_tokens != tensor.shape[1] for size, tensor in zip(sizes, (given, own), strict=True)):
        return given
    from timm.layers.pos_embed import resample_abs_pos_embed  # timm takes seconds to import, and few files need it

    return resample_abs_pos_embed(given, [sizes[1]] * 2, [sizes[0]] * 2, num_prefix_tokens=prefix_tokens)


def _names(names: Mapping[str, Any] | tuple[str, ...]) -> str:
    return listed(names, MAX_TENSORS_NAMED)


def _first_names(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the first name of the same tensor for each name."""
    found: dict[Hashable, str] = {}
    return {name: found.setdefault(_identity(tensor), name) for name, tensor in tensors.items()}


def _identity(tensor: Tensor) -> Hashable:
    """Return a value that two tensors share if they are the same numbers of the same memory; tensors without memory have one too."""
    storage = tensor.untyped_storage()._cdata  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # data_ptr is 0 on the device meta
    return storage, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype
