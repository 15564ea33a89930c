"""Metrics, losses, optimizers and augmentations of other packages: loaded by name, with checked fields and options."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from cnnkit.architecture import option_keywords, parse_settings, read_options
from cnnkit.errors import PluginError, is_fault
from cnnkit.extension.choice import parse_choice
from cnnkit.extension.values import Augmentation, Loss, Metric, Optimizer
from cnnkit.registry.entries import AUGMENTATIONS, LOSSES, METRICS, OPTIMIZERS, Entry
from cnnkit.registry.fence import fence
from cnnkit.registry.loading import load

MAX_DRAWS = 1000  # random numbers of an image
V = TypeVar("V", bound=Metric | Loss | Optimizer | Augmentation)
Options = Mapping[str, bool | int | float | str]


@dataclass(frozen=True)
class Kind(Generic[V]):
    """A group of entry points: the type of its values, the field that holds their function, and the flag that names one."""

    group: str
    type: type[V]
    role: str
    flag: str


METRIC_KIND = Kind(METRICS, Metric, "compute", "--metric")
LOSS_KIND = Kind(LOSSES, Loss, "build", "--loss")
AUGMENTATION_KIND = Kind(AUGMENTATIONS, Augmentation, "apply", "--augment-with")
OPTIMIZER_KIND = Kind(OPTIMIZERS, Optimizer, "build", "--optimizer")


@dataclass(frozen=True)
class Extension(Generic[V]):
    """A value of an installed package that the user chose by `text`, such as ``focal:gamma=1.5``, with all of its options.

    `options` are plain values for records; the function of the value gets them as `keywords`, with members of each `Enum`.
    """

    text: str
    value: V
    entry: Entry
    options: Options
    keywords: Mapping[str, Any]
    role: str

    def call(self, *arguments: Any) -> Any:
        """Return the result of the value's function for `arguments` and the options, inside the fence."""
        return self.guard(getattr(self.value, self.role), *arguments, **self.keywords)

    def guard(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """Return the result of a `function` of the package inside the fence.

        A fault of the machine, such as full memory, keeps its type: the training loop has its own way on.
        """
        try:
            options = "check its options, or " if self.options else ""
            with fence(self.entry, f"fails{self._shown_options}", remedy=f"{options}choose another {self.entry.kind}"):
                return function(*arguments, **keywords)
        except PluginError as error:
            if error.__cause__ is not None and is_fault(error.__cause__):
                raise error.__cause__ from None
            raise

    @property
    def _shown_options(self) -> str:
        """The options as `` with gamma=1.5, mode=hard``; an empty text if there are none."""
        return f" with {', '.join(f'{name}={value}' for name, value in self.options.items())}" if self.options else ""

    def refuse(self, problem: str) -> PluginError:
        """Return the error that names the package, its version and a `problem` with the result of the function."""
        return PluginError(f"{self.entry.described}{self._shown_options}: {problem}")

    def facts(self) -> dict[str, Any]:
        """Return the plain values for a record: kind, name, package, version and options."""
        return {
            "kind": self.entry.kind,
            "name": self.entry.name,
            "package": self.entry.package,
            "version": self.entry.version,
            "options": dict(self.options),
        }


def load_extension(kind: Kind[V], text: str, path: Iterable[str] | None = None, *, built_in: Iterable[str] = ()) -> Extension[V]:
    """Return the value of `kind` that `text` names, with its options; `built_in` are further names for the error.

    Raises `ConfigError` for a wrong text or option, and `PluginError` as `load` does, or for an entry or a field of a wrong type.
    """
    choice = parse_choice(text, kind.flag)
    value, entry = load(kind.group, choice.name, path, built_in=built_in)
    if not isinstance(value, kind.type):
        raise PluginError(f"{entry.described} is a {type(value).__name__}, not a cnnkit.{kind.type.__name__}")
    _check_fields(value, entry, kind.role)
    known = read_options(getattr(value, kind.role), entry.described, f"its {kind.role}")
    example = next((f"{choice.name}:{option}" for option in known.values()), choice.name)
    typed = f"{kind.flag} {choice.name}:"
    chosen = parse_settings(known, f"{entry.kind} {choice.name!r}", choice.settings, flag=typed, example=f"{kind.flag} {example}")
    return Extension(text, value, entry, chosen, option_keywords(known, entry.described, chosen), kind.role)


def _check_fields(value: Metric | Loss | Optimizer | Augmentation, entry: Entry, role: str) -> None:
    """Raise `PluginError` for a field with a value that the contract does not allow."""
    checks = ((role, callable, "a function"), ("summary", _is_text, "text"), ("reference", _is_text, "text"), *_FIELDS.get(type(value), ()))
    for field, is_allowed, allowed in checks:
        given = getattr(value, field)
        if not is_allowed(given):
            with fence(entry, f"has a field {field} that cannot be shown"):
                shown = repr(given)[:60]
            raise PluginError(f"{entry.described}: {field} is {shown}; it must be {allowed}")


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_number_of_draws(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_DRAWS


def _are_bounds(value: object) -> bool:
    if value is None:
        return True
    ends = cast("tuple[Any, ...]", value) if isinstance(value, tuple) else ()
    return len(ends) == 2 and all(isinstance(end, int | float) and math.isfinite(end) for end in ends) and ends[0] < ends[1]  # noqa: PLR2004 (both ends)


_FIELDS: dict[type, tuple[tuple[str, Callable[[Any], bool], str], ...]] = {
    Augmentation: (("num_draws", _is_number_of_draws, f"a whole number from 0 to {MAX_DRAWS}"),),
    Metric: (("bounds", _are_bounds, "two finite numbers, the smaller one first, or None"),),
}
