"""Second stage of a training's preparation: the network, from architecture, options and weights; its preprocessing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cnnkit.architecture import Architecture, option_name, options, parse_options
from cnnkit.errors import CnnkitError, ConfigError, ModelFileError
from cnnkit.model.file import ModelHeader, read_header
from cnnkit.model.head import head_layers, head_parameters
from cnnkit.model.preprocessing import Preprocessing
from cnnkit.model.weights import WeightsReport, load_weights, read_weights
from cnnkit.registry import Entry, load_architecture

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from cnnkit.config.settings import ModelConfig, TrainConfig

SMALLEST = 32  # px: images below are scaled up to it; three poolings of 2 leave 4 x 4
SMALL_IMAGES = 64  # px: up to here a stem made for 224 px throws away most of what there is to see


@dataclass(frozen=True)
class Blueprint:
    """What is to be built: the architecture, its origin, its options and the weights to start from (None: random)."""

    name: str
    architecture: Architecture
    entry: Entry
    settings: tuple[str, ...]
    weights: Mapping[str, Tensor] | None
    source: str
    preprocessing: Preprocessing | None  # what the weights were trained with
    classes: tuple[str, ...] = ()  # what they told apart, where that is known


def draw_up(config: ModelConfig) -> Blueprint:
    """Load the architecture and weights that `config` names; nothing is built yet.

    Raises `PluginError` for the architecture, `ConfigError` for its options, `ModelFileError` or `ConfigError` for the
    weights.
    """
    architecture, entry = load_architecture(config.arch)
    parse_options(architecture, config.arch, config.set)
    weights, preprocessing, classes = _weights(config, architecture)
    return Blueprint(config.arch, architecture, entry, config.set, weights, config.weights, preprocessing, classes)


def choose_preprocessing(blueprint: Blueprint, config: ModelConfig, typical_side: int) -> tuple[Preprocessing, str | None]:
    """Return the preprocessing (mean and std of the weights, or placeholders until the data's are known), with a note.

    The image size is the one asked for, else the weights', else the architecture's or that of images with
    `typical_side` pixels, whichever is smaller.
    """
    known, note = blueprint.preprocessing, None
    size = config.image_size
    if size is None and known is not None:
        size = known.image_size
    if size is None:
        data_size = max(SMALLEST, -(-typical_side // 8) * 8)  # a multiple of 8 survives three poolings unclipped
        size = min(blueprint.architecture.image_size, data_size)
        note = f"images are {typical_side} px (median of the shorter side): --image-size {size}"
    if known is None:
        return Preprocessing(
            image_size=size,
            channels=config.channels,
            resize_mode=config.resize_mode,
            mean=(0.0,) * config.channels,
            std=(1.0,) * config.channels,
        ), note
    gray = config.channels == 1 and known.channels == 3  # noqa: PLR2004 (RGB)
    mean, std = ((sum(known.mean) / 3,), (sum(known.std) / 3,)) if gray else (known.mean, known.std)
    return Preprocessing(
        image_size=size,
        channels=config.channels,
        resize_mode=config.resize_mode,
        interpolation=known.interpolation,
        crop=known.crop if config.resize_mode == "crop" else 1.0,
        mean=mean,
        std=std,
    ), note


@dataclass(frozen=True)
class Network:
    """A network with its weights loaded, the options it was built with and the `package` it comes from.

    `head` names the parameters that train while the rest is frozen (empty: nothing is frozen). `report` says what loading the weights
    left over (None: random weights).
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
    """Seed torch's random numbers, build the network and load its weights; `mirrors`: training mirrors images left-right.

    Raises `ConfigError` if the architecture cannot be built so, or if --freeze-epochs finds no last layer.
    """
    torch.manual_seed(config.run.seed)
    if torch.are_deterministic_algorithms_enabled() != config.run.deterministic:  # setting it imports torch's compiler: 1 to 2 s
        torch.use_deterministic_algorithms(config.run.deterministic)
    chosen, notes = _choose_options(blueprint, preprocessing, mirrors=mirrors)
    module = _built(blueprint, len(classes), preprocessing.channels, chosen)
    report = None
    if blueprint.weights is not None:
        report = load_weights(module, blueprint.weights)
        if blueprint.classes not in {(), classes} and head_layers(module, len(classes)):
            report = report.without({name: module.get_parameter(name) for name in head_parameters(module, len(classes))})
        notes.append(report.describe(f"weights {blueprint.source}"))
    head = frozenset(head_parameters(module, len(classes))) if config.optim.freeze_epochs else frozenset[str]()
    return Network(module, chosen, blueprint.entry.package, head, report, tuple(notes))


def _choose_options(blueprint: Blueprint, preprocessing: Preprocessing, *, mirrors: bool) -> tuple[dict[str, Any], list[str]]:
    """Return the options of `build`, with notes on those that were not set by hand and follow from the images.

    An option ``image_size`` is filled in, ``small_images`` is switched on for small images without weights, and ``mirror`` where
    training mirrors images left-right.
    """
    chosen: dict[str, Any] = dict(parse_options(blueprint.architecture, blueprint.name, blueprint.settings))
    by_hand = {option_name(setting) for setting in blueprint.settings}
    offered = options(blueprint.architecture, blueprint.name).keys() - by_hand
    notes: list[str] = []
    if "image_size" in offered:
        chosen["image_size"] = preprocessing.image_size
    if "small_images" in offered and blueprint.weights is None and preprocessing.image_size <= SMALL_IMAGES:
        chosen["small_images"] = True
        notes.append(f"{blueprint.name} with its stem for small images (--set small_images=false for the original)")
    if "mirror" in offered and mirrors:
        chosen["mirror"] = True
        notes.append(f"{blueprint.name} answers the same for an image and its mirror image (--set mirror=false to learn that)")
    return chosen, notes


def _built(blueprint: Blueprint, num_classes: int, channels: int, chosen: dict[str, Any]) -> nn.Module:
    """Call the architecture's build, a stranger's code; raises `ConfigError` that names its package and what was asked of it."""
    try:
        return blueprint.architecture.build(num_classes, channels, **chosen)
    except CnnkitError:
        raise
    except Exception as error:
        settings = ", ".join(f"{name}={value}" for name, value in chosen.items())
        raise ConfigError(
            f"architecture {blueprint.name!r} of {blueprint.entry.origin} cannot be built for {num_classes} classes and "
            f"{channels} channels with {settings or 'no options'}: {type(error).__name__}: {error}"
        ) from error


def check_start_size(module: nn.Module, arch: str, preprocessing: Preprocessing, start_size: int) -> None:
    """Raise `ConfigError` unless `module`, named `arch`, takes images of `start_size` px and they are smaller than its own."""
    if not start_size:
        return
    if start_size >= preprocessing.image_size:
        raise ConfigError(
            f"--start-size (={start_size}) must be below --image-size (={preprocessing.image_size}), which comes after it; "
            "--start-size 0 shows all images whole"
        )
    weight = next(module.parameters())
    training = module.training
    try:
        with torch.no_grad():
            module.eval()(torch.zeros(1, preprocessing.channels, start_size, start_size, device=weight.device))
    except (RuntimeError, ValueError, AssertionError) as error:  # what torch and timm raise for shapes they cannot take
        raise ConfigError(
            f"--start-size (={start_size}): {arch} takes images of {preprocessing.image_size} px, and none of {start_size} px ({error}); "
            "--start-size 0 shows all images whole"
        ) from None
    finally:
        module.train(training)


def _weights(config: ModelConfig, architecture: Architecture) -> tuple[Mapping[str, Tensor] | None, Preprocessing | None, tuple[str, ...]]:
    """The weights that `config` names, the preprocessing they want, and the classes they told apart (empty: not known)."""
    published = architecture.pretrained
    own = published and Preprocessing(
        image_size=published.image_size, interpolation=published.interpolation, crop=published.crop, mean=published.mean, std=published.std
    )
    if config.weights == "none":
        return None, None, ()
    if config.weights != "pretrained":
        path = Path(config.weights)
        weights, header = read_weights(path), _header(path)
        return weights, header.preprocessing if header else own, header.classes if header else ()
    if published is None:
        raise ConfigError(f"--weights pretrained: {config.arch} has no published weights; give a file: --weights FILE.safetensors")
    try:
        return published.fetch(), own, ()
    except OSError as error:
        raise ModelFileError(
            f"--weights pretrained: the weights of {config.arch} cannot be downloaded ({error}); "
            f"fetch {published.place} elsewhere and give it: --weights FILE.safetensors"
        ) from None


def _header(path: Path) -> ModelHeader | None:
    """The header of a cnnkit model file; None for bare weights."""
    try:
        return read_header(path)
    except ModelFileError:
        return None
