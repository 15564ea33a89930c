"""The second stage of preparing a training: the network from architecture, options and weights, and its preprocessing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cnnkit.architecture import Architecture, option_name, options, parse_options
from cnnkit.data.default_geometry import scratch_preprocessing, scratch_size
from cnnkit.engine.random_state import own_random_state
from cnnkit.engine.trial import forward_failure, learning_failure
from cnnkit.errors import CnnkitError, ConfigError, ModelFileError, shell_path
from cnnkit.model.file import ModelHeader, read_header
from cnnkit.model.head import head_layers, head_parameters
from cnnkit.model.preprocessing import Preprocessing, draft_side_for
from cnnkit.model.weights import WeightsReport, load_weights, read_weights, unfold_buffers
from cnnkit.registry import Entry, fence, load_architecture
from cnnkit.run_dir import RunDir, find_run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from cnnkit.config.settings import ModelConfig, TrainConfig

MAX_SMALL_SIZE = 64  # px: a stem for 224 px discards most details of images up to this size

# px: usual image sizes, tried where a network cannot train on the given size.
CANDIDATE_SIZES = (16, 24, 32, 48, 64, 96, 128, 160, 192, 224, 256, 299, 320, 384, 448, 512)


@dataclass(frozen=True)
class Blueprint:
    """The plan of a network: the architecture, its origin, its options and its initial weights (None: random).

    `preprocessing` is that of the training of the weights, `classes` are its classes; None and empty if unknown.
    """

    name: str
    architecture: Architecture
    entry: Entry
    settings: tuple[str, ...]
    weights: Mapping[str, Tensor] | None
    source: str
    preprocessing: Preprocessing | None
    classes: tuple[str, ...] = ()


def draw_up(config: ModelConfig) -> Blueprint:
    """Load the architecture and the weights that `config` names, without building the network.

    Raises `PluginError` for the architecture, `ConfigError` for its options, and `ModelFileError` or `ConfigError` for the weights.
    """
    architecture, entry = load_architecture(config.arch)
    parse_options(architecture, config.arch, config.set)
    weights, preprocessing, classes = _load_weights(config, architecture)
    return Blueprint(config.arch, architecture, entry, config.set, weights, config.weights, preprocessing, classes)


def choose_preprocessing(blueprint: Blueprint, config: ModelConfig, typical_side: int) -> tuple[Preprocessing, str | None]:
    """Return the preprocessing and a note on the image size; without weights, mean and std are placeholders for those of the data.

    The image size is that of `config`, else that of the weights. Otherwise it is the smaller of the size of the architecture and
    `typical_side` px, the typical length of the shorter edge of the images.
    """
    known, note = blueprint.preprocessing, None
    size = config.image_size
    if size is None and known is not None:
        size = known.image_size
    if size is None:
        size = scratch_size(blueprint.architecture.image_size, typical_side)
        note = f"images are {typical_side} px (median of the shorter side): --image-size {size}"
    if known is None:
        return scratch_preprocessing(config, size), note
    gray = config.channels == 1 and known.channels == 3  # noqa: PLR2004 (RGB)
    crop = known.crop if config.resize_mode == "crop" else 1.0
    mean, std = ((sum(known.mean) / 3,), (sum(known.std) / 3,)) if gray else (known.mean, known.std)
    return Preprocessing(
        image_size=size,
        channels=config.channels,
        resize_mode=config.resize_mode,
        interpolation=known.interpolation,
        crop=crop,
        mean=mean,
        std=std,
        draft_side=draft_side_for(size, crop) if config.draft else None,
    ), note


@dataclass(frozen=True, eq=False)
class TrialBatch:
    """A batch of the training, `images` (n, C, H, W), with the size of the `smallest` batch and the `total` of training images."""

    images: Tensor
    smallest: int
    total: int


@dataclass(frozen=True)
class Network:
    """A network with its weights, the options of its build and the `package` of its architecture.

    `head` names the parameters that train while the others are frozen (empty: no parameter is frozen). `report` describes the loaded
    weights (None: random weights).
    """

    module: nn.Module
    options: dict[str, Any]
    package: str
    head: frozenset[str]
    report: WeightsReport | None
    notes: tuple[str, ...]


def build_network(
    config: TrainConfig, blueprint: Blueprint, classes: tuple[str, ...], preprocessing: Preprocessing, *, mirrors: bool
) -> Network:
    """Seed torch, build the network and load its weights; `mirrors` tells whether training mirrors images left-right.

    Raises `PluginError` if the architecture cannot be built with its options, `ConfigError` if ``--freeze-epochs`` finds no last layer.
    """
    torch.manual_seed(config.run.seed)
    if torch.are_deterministic_algorithms_enabled() != config.run.deterministic:  # the setter imports torch's compiler: 1 to 2 s
        torch.use_deterministic_algorithms(config.run.deterministic)
    chosen, notes = _choose_options(blueprint, preprocessing, mirrors=mirrors)
    module = blueprint.architecture.build(len(classes), preprocessing.channels, **chosen)
    unfold_buffers(module)
    report = None
    if blueprint.weights is not None:
        report = load_weights(module, blueprint.weights)
        if blueprint.classes not in {(), classes} and head_layers(module, len(classes)):
            report = report.without({name: module.get_parameter(name) for name in head_parameters(module, len(classes))})
        notes.append(report.describe(f"weights {blueprint.source}"))
    head = frozenset(head_parameters(module, len(classes))) if config.optim.freeze_epochs else frozenset[str]()
    return Network(module, chosen, blueprint.entry.package, head, report, tuple(notes))


def _choose_options(blueprint: Blueprint, preprocessing: Preprocessing, *, mirrors: bool) -> tuple[dict[str, Any], list[str]]:
    """Return the options of `build`, with notes on the options that follow from the images and were not set by hand.

    An option ``image_size`` gets the image size. ``small_images`` is switched on for small images without weights, ``mirror`` if
    training mirrors images left-right.
    """
    chosen: dict[str, Any] = dict(parse_options(blueprint.architecture, blueprint.name, blueprint.settings))
    set_by_hand = {option_name(setting) for setting in blueprint.settings}
    free = options(blueprint.architecture, blueprint.name).keys() - set_by_hand
    notes: list[str] = []
    if "image_size" in free:
        chosen["image_size"] = preprocessing.image_size
    if "small_images" in free and blueprint.weights is None and preprocessing.image_size <= MAX_SMALL_SIZE:
        chosen["small_images"] = True
        notes.append(f"{blueprint.name} gets its stem for small images (--set small_images=false: the original stem)")
    if "mirror" in free and mirrors:
        chosen["mirror"] = True
        notes.append(f"{blueprint.name} predicts the same for an image and its mirror image (--set mirror=false: it learns this instead)")
    return chosen, notes


def check_batch(
    config: TrainConfig, blueprint: Blueprint, network: Network, preprocessing: Preprocessing, classes: int, batch: TrialBatch
) -> None:
    """Raise `ConfigError` unless `network` can train on `batch` in train mode; the error names a size that works, if there is one."""
    with fence(blueprint.entry, "cannot be tried"):
        _check_batch(config, blueprint, network, preprocessing, classes, batch)


def _check_batch(
    config: TrainConfig, blueprint: Blueprint, network: Network, preprocessing: Preprocessing, classes: int, batch: TrialBatch
) -> None:
    images, name = batch.images, blueprint.name
    failure = forward_failure(network.module, images, classes)
    pair = torch.cat([images, images])[:2]
    if not failure and batch.smallest < len(images):
        failure = forward_failure(network.module, images[: batch.smallest], classes)
    if not failure:
        failure = learning_failure(network.module, pair, classes)
        if failure:
            raise ConfigError(f"--arch {name} of {blueprint.entry.origin} cannot learn ({failure}); choose another: cnnkit archs")
        return
    if batch.smallest == 1 and not forward_failure(network.module, pair, classes):
        _refuse_batch_of_one(config, name, batch, failure)
    size = preprocessing.image_size
    maker = "" if blueprint.entry.is_builtin else f" of {blueprint.entry.origin}"
    working = _working_size(blueprint, network, preprocessing, classes, pair)
    if working is not None:
        raise ConfigError(
            f"--image-size (={size}): {name}{maker} cannot train on images of {size} px ({failure}); "
            f"of the sizes tried, the nearest that works is {working} px: --image-size {working}"
        )
    raise ConfigError(
        f"--arch {name} of {blueprint.entry.origin} cannot train on a batch of {len(images)} images of {preprocessing.channels} x {size} x "
        f"{size} ({failure}); other image sizes do not help; choose another architecture: cnnkit archs"
    )


def _refuse_batch_of_one(config: TrainConfig, name: str, batch: TrialBatch, failure: str) -> None:
    if batch.total == 1:
        raise ConfigError(f"--arch {name} cannot train on a single image ({failure}); add training images")
    given = len(batch.images)
    larger = next(size for size in range(given + 1, batch.total + 1) if batch.total // -(-batch.total // size) > 1)
    flag = f"--batch-size (={config.optim.batch_size})"
    has_one = "batches" if given == 1 else f"{batch.total} training images leave a batch"
    raise ConfigError(f"{flag}: {has_one} of one image, on which {name} cannot train ({failure}); try --batch-size {larger}")


def _working_size(blueprint: Blueprint, network: Network, preprocessing: Preprocessing, classes: int, pair: Tensor) -> int | None:
    """Return the nearest image size in `CANDIDATE_SIZES` at which the network trains on two images; larger sizes come first."""
    given = preprocessing.image_size
    sizes = sorted({*CANDIDATE_SIZES, blueprint.architecture.image_size} - {given})
    candidates = [*(size for size in sizes if size > given), *(size for size in reversed(sizes) if size < given)]
    for size in candidates:
        other = preprocessing.model_copy(update={"image_size": size})
        try:
            with own_random_state(pair.device, seed=0):
                chosen, _ = _choose_options(blueprint, other, mirrors=bool(network.options.get("mirror")))
                module = blueprint.architecture.build(classes, preprocessing.channels, **chosen)
        except CnnkitError:
            continue
        if not forward_failure(module, pair.new_zeros((2, preprocessing.channels, size, size)), classes):
            return size
    return None


def check_start_size(module: nn.Module, arch: str, preprocessing: Preprocessing, classes: int, start_size: int) -> None:
    """Raise `ConfigError` unless `start_size` px are below the image size and `module`, of architecture `arch`, trains on them."""
    if not start_size:
        return
    if start_size >= preprocessing.image_size:
        raise ConfigError(
            f"--start-size (={start_size}) must be below --image-size (={preprocessing.image_size}); "
            "--start-size 0 trains at full size from the start"
        )
    device = next(module.parameters()).device
    failure = forward_failure(module, torch.zeros(2, preprocessing.channels, start_size, start_size, device=device), classes)
    if failure:
        raise ConfigError(
            f"--start-size (={start_size}): {arch} accepts images of {preprocessing.image_size} px, but not of {start_size} px "
            f"({failure}); --start-size 0 trains at full size from the start"
        )


def _load_weights(
    config: ModelConfig, architecture: Architecture
) -> tuple[Mapping[str, Tensor] | None, Preprocessing | None, tuple[str, ...]]:
    """Return the weights that `config` names, with their preprocessing and classes (None and empty: unknown)."""
    published = architecture.pretrained
    own = published and Preprocessing(
        image_size=published.image_size, interpolation=published.interpolation, crop=published.crop, mean=published.mean, std=published.std
    )
    if config.weights == "none":
        return None, None, ()
    if config.weights != "pretrained":
        path = Path(config.weights)
        run = RunDir(find_run(path))
        if run.is_run and not path.is_file():
            raise ConfigError(f"--weights {path}: a run, and --weights takes a file; type: --weights {shell_path(run.best)}")
        weights, header = read_weights(path), _header(path)
        return weights, header.preprocessing if header else own, header.classes if header else ()
    if published is None:
        raise ConfigError(f"--weights pretrained: {config.arch} has no published weights; name a file: --weights FILE.safetensors")
    try:
        return published.fetch(), own, ()
    except OSError as error:
        raise ModelFileError(
            f"--weights pretrained: the weights of {config.arch} cannot be downloaded ({error}); "
            f"download {published.place} on another machine and name the file: --weights FILE.safetensors"
        ) from None


def _header(path: Path) -> ModelHeader | None:
    """Return the header of a cnnkit model file; None for bare weights."""
    try:
        return read_header(path)
    except ModelFileError:
        return None
