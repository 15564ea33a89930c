"""The domains that a search takes for names without one: of the settings, and of an architecture's declared options."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, get_args, get_origin

from cnnkit.architecture import Option
from cnnkit.config.settings import BUILT_IN_OPTIMIZERS, SECTION_OF, SECTIONS, OptimSettings, TrainConfig
from cnnkit.tuning.space import Choices, Domain, Range

DECADES = 10.0  # a rate is searched from a tenth to ten times the recipe's value
_RATES = ("lr", "weight_decay")
_DOMAINS: dict[str, Domain] = {
    "batch_size": Choices((32, 64, 128, 256)),
    "optimizer": Choices(BUILT_IN_OPTIMIZERS),
    "label_smoothing": Range(0.0, 0.2),
    "layer_decay": Range(0.6, 1.0),
    "ema": Choices((0.0, 0.99, 0.999)),
    "warmup_epochs": Range(0.0, 2.0),
    "clip_grad": Choices((0.0, 1.0)),
    "rotate": Range(0.0, 20.0),
    "shift": Range(0.0, 0.125),
    "color": Range(0.0, 0.4),
    "erase": Range(0.0, 0.5),
    "mixup": Range(0.0, 0.4),
    "cutmix": Range(0.0, 1.0),
}
_OPTIONS = {  # the field's names of dropout; an architecture may narrow the range
    "dropout": Range(0.0, 0.6),
    "drop_rate": Range(0.0, 0.6),
}
# The settings of a default search. Fine-tuning moves weights that are good already, so the rates of the layers matter more than mixing.
_SCRATCH = ("lr", "weight_decay", "label_smoothing", "augment", "mixup")
_FINETUNE = ("lr", "weight_decay", "layer_decay", "label_smoothing", "augment")
# Names outside of the three sections that a search may change; all others change the images, the measure or the machine.
_SEARCHED_SECTIONS = ("model", "optim", "augment")
_SEARCHED_ALONE = frozenset({"balance", "patience"})
_NEVER = frozenset({"set", "budget"})


def searchable() -> list[str]:
    """Return the settings of a training that a search may change."""
    return [
        name for name, section in SECTION_OF.items() if name not in _NEVER and (section in _SEARCHED_SECTIONS or name in _SEARCHED_ALONE)
    ]


def number_of(name: str) -> type | None:
    """Return int or float for a numeric setting, None for any other."""
    return _number(_field(name).annotation)


def default_names(config: TrainConfig) -> tuple[str, ...]:
    """Return the settings of the default search for the recipe of `config`."""
    return _FINETUNE if config.model.weights != "none" else _SCRATCH


def default_domain(name: str, config: TrainConfig) -> Domain | None:
    """Return the default domain of the setting `name` around the values of `config`; None if it has none."""
    if name in _RATES:
        centre = getattr(config.optim, name)
        if centre == "auto":
            centre = OptimSettings.model_fields[name].default
        return Range(float(f"{centre / DECADES:.6g}"), float(f"{centre * DECADES:.6g}"), log=True) if centre else None
    if name in _DOMAINS:
        return _DOMAINS[name]
    annotation = _field(name).annotation
    if annotation is bool:
        return Choices((False, True))
    words = _literals(annotation)
    return Choices(words) if len(words) > 1 and name != "precision" else None


def option_domain(option: Option) -> Domain | None:
    """Return the domain of an option: its declared choices or range, both ways of a switch, or that of dropout; None without one."""
    if len(option.choices) > 1:
        return Choices(option.choices)
    if option.type is bool:
        return Choices((False, True))
    usual = _OPTIONS.get(option.name) if option.type is float else None
    low = max((each for each in (option.low, usual and usual.low) if each is not None), default=None)
    high = min((each for each in (option.high, usual and usual.high) if each is not None), default=None)
    if low is None or high is None or low >= high:
        return None
    return Range(float(low), float(high), is_integer=option.type is int)


def usual_options(options: Iterable[Option]) -> dict[str, Domain]:
    """Return the domains of those `options` that a default search changes: declared choices of words, and dropout.

    The range of a size, such as of the width, is what the network can take. Its ends may cost a thousand times as much as the default.
    """
    return {
        option.name: domain
        for option in options
        if (option.type is str or option.name in _OPTIONS) and (domain := option_domain(option)) is not None
    }


def _field(name: str) -> Any:
    return SECTIONS[SECTION_OF[name]].model_fields[name]


def _number(annotation: Any) -> type | None:
    """Return the numeric type in an annotation such as ``float | None``; tuples and numbers of a fixed list have none."""
    if annotation in {int, float}:
        return annotation
    if get_origin(annotation) in {tuple, Literal}:
        return None
    members = get_args(annotation)[:1] if get_origin(annotation) is Annotated else get_args(annotation)
    return next((kind for member in members if (kind := _number(member))), None)


def _literals(annotation: Any) -> tuple[Any, ...]:
    """Return the words of an annotation such as ``Literal["a", "b"] | None``."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return next((words for member in get_args(annotation) if (words := _literals(member))), ())
