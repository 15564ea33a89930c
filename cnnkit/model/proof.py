"""The proof of a network: the package that built it, and its logits for one fixed canvas, recorded at saving and compared at loading.

Weights fit any code that names its tensors alike, even if that code computes something else: the logits show the difference.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import metadata

import torch
from torch import Tensor, nn

from cnnkit.errors import shell_line
from cnnkit.model.header import LIBRARIES, OWN_PACKAGE, PACKAGE, ModelHeader
from cnnkit.model.preprocess import Preprocess
from cnnkit.model.preprocessing import Preprocessing
from cnnkit.registry import Entry

# A share of the largest logit. Other threads, memory formats and kernels change it by at most 1e-5: see docs/benchmarks/LOG.md,
# "Logits of a fixed canvas". A GPU adds rounding errors of the same kind.
TOLERANCE = 1e-3
LEVELS = 256  # of a pixel
DIGITS = 7  # of a logit in the file, as many as fp32 has
VERSION = re.compile(r"[0-9A-Za-z.!_-]+")  # without the local part, such as +cu121, which no index has
BUILDERS = ("timm",)  # libraries that build networks for other packages
KERNELS = ("torch", "torchvision")  # libraries that compute them; seldom the reason


def proof_canvas(spec: Preprocessing) -> Tensor:
    """Return the fixed canvas, uint8 (1, C, S, S): ramps and waves of many frequencies, whole numbers that every machine computes alike."""
    line, channel = torch.arange(spec.image_size), torch.arange(spec.channels)[:, None, None]
    row, column = line[:, None], line[None, :]
    return ((row * column * (channel + 1) + 7 * column + 13 * row + 85 * channel) % LEVELS).to(torch.uint8)[None]


@torch.no_grad()  # no inference mode: the network may keep a tensor, and its gradients may be asked for later
def proof_logits(module: nn.Module, spec: Preprocessing, device: torch.device | None = None) -> tuple[float, ...] | None:
    """Return the logits of `module` in eval mode, on `device` (None: the CPU), for the fixed canvas; None if they are no finite row."""
    images = Preprocess(spec).normalise(proof_canvas(spec)).to(device)
    logits = module.eval()(images)
    if not isinstance(logits, Tensor) or logits.shape[:-1] != (1,) or not logits.isfinite().all():
        return None
    return tuple(float(f"{value:.{DIGITS}g}") for value in logits[0].tolist())


def logit_difference(recorded: Sequence[float], found: Sequence[float] | None) -> float:
    """Return the largest difference of two rows of logits as a share of the largest one recorded; infinite without a comparable row."""
    if found is None or len(found) != len(recorded):
        return float("inf")
    largest = max(map(abs, recorded))
    difference = max(abs(one - other) for one, other in zip(recorded, found, strict=True))
    return difference / largest if largest else float("inf") if difference else 0.0


def versions_and_remedy(header: ModelHeader, entry: Entry) -> str:
    """Return a clause with the recorded and the installed versions of what builds the network, and the way to the former."""
    package = _package(header)
    known = (package, *(name for name in (*BUILDERS, *KERNELS) if name in header.versions))
    differing = [name for name in dict.fromkeys(known) if header.versions.get(name) != _installed(name, entry)]
    written = [_named(header, name) for name in dict.fromkeys((package, *differing))]
    installed = [entry.origin, *(f"{name} {_installed(name, entry)}" for name in differing if name != entry.package)]
    clause = f"the file was written with {', '.join(written)}; installed: {', '.join(dict.fromkeys(installed))}"
    wanted = [name for name in differing if name not in KERNELS] or differing
    if not wanted:
        return f"{clause}, so its code has changed under the same version: reinstall {package} as it was, or train again"
    return f"{clause}; to use this model, type: {_pip(header, wanted)}"


def missing_package(header: ModelHeader) -> str:
    """Return a clause for an architecture that does not load: its package, what is installed of it, and the command that installs it."""
    package = _package(header)
    names = [package, *(name for name in BUILDERS if header.arch.partition("/")[0] == name)]
    installed = ", ".join(f"{name} {_installed(name)}" for name in names)
    written = ", ".join(_named(header, name) for name in names)
    wanted = [name for name in names if header.versions.get(name) != _installed(name)] or names
    return f"needs {header.arch!r} of {written}; installed: {installed}; type: {_pip(header, wanted)}"


def _package(header: ModelHeader) -> str:
    """Return the package of the architecture; in an older file it is the one that is recorded beside the libraries, else cnnkit."""
    others = (name for name in header.versions if name not in {"python", *LIBRARIES} and re.match(PACKAGE, name))
    return header.package or next(others, OWN_PACKAGE)


def _installed(name: str, entry: Entry | None = None) -> str:
    if entry is not None and name == entry.package:
        return entry.version
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "(missing)"


def _named(header: ModelHeader, name: str) -> str:
    return f"{name} {header.versions.get(name, 'of unknown version')}"


def _pip(header: ModelHeader, names: list[str]) -> str:
    """Return the command that installs the recorded versions of `names`; a version that is none is left out, as files may hold anything."""
    versions = [(name, header.versions.get(name, "").partition("+")[0]) for name in names]
    return shell_line(["pip", "install", *(f"{name}=={version}" if VERSION.fullmatch(version) else name for name, version in versions)])
