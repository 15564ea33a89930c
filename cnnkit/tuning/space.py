"""The space of a search: a range or a list of choices for each setting and option, as ``--search`` and ``--space`` write them.

The grammar is ``NAME=LOW..HIGH``, ``NAME=LOW..HIGH:log``, ``NAME=LOW..HIGH:step=S`` or ``NAME=A,B,C``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from cnnkit.architecture import option_name
from cnnkit.errors import ConfigError

Value = bool | int | float | str  # of a setting or an option in one trial
STEP_TOLERANCE = 1e-9  # of the number of steps in a range: 0.1 is not exact in binary
GRAMMAR = "NAME=LOW..HIGH, NAME=LOW..HIGH:log, NAME=LOW..HIGH:step=S or NAME=A,B,C"


@dataclass(frozen=True)
class Range:
    """All numbers from `low` to `high`: drawn evenly, or evenly by their logarithm, or in steps; integers or floats."""

    low: float
    high: float
    log: bool = False
    step: float | None = None
    is_integer: bool = False

    @property
    def edges(self) -> tuple[Value, ...]:
        """The two ends."""
        return (int(self.low), int(self.high)) if self.is_integer else (self.low, self.high)

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        steps = (value - self.low) / self.step if self.step else 0.0
        return (not self.is_integer or float(value).is_integer()) and abs(steps - round(steps)) <= STEP_TOLERANCE * max(1.0, steps)

    def __str__(self) -> str:
        tail = ":log" if self.log else f":step={self.step:g}" if self.step else ""
        return f"{self.low:g}..{self.high:g}{tail}"


@dataclass(frozen=True)
class Choices:
    """A list of at least two values without an order."""

    values: tuple[Value, ...]

    @property
    def edges(self) -> tuple[Value, ...]:
        """All values."""
        return self.values

    def __contains__(self, value: object) -> bool:
        return any(value == choice and type(value) is type(choice) for choice in self.values)

    def __str__(self) -> str:
        return ",".join(choice_text(value) for value in self.values)


Domain = Range | Choices


@dataclass(frozen=True)
class SearchSpace:
    """The domain of each searched name.

    `options` holds, for each architecture of the search, the searched names that are options of it. All other names are settings of
    a training. An option takes part only in trials whose architecture has it.
    """

    domains: Mapping[str, Domain]
    options: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def settings(self) -> tuple[str, ...]:
        """The searched settings in the order of drawing; the architecture comes first, as it decides on the options."""
        own = {name for names in self.options.values() for name in names}
        return tuple(sorted((name for name in self.domains if name not in own), key=lambda name: name != "arch"))

    def options_of(self, arch: str) -> tuple[str, ...]:
        """Return the searched options of the architecture `arch`."""
        return tuple(name for name in self.domains if name in self.options.get(arch, ()))

    def to_dict(self) -> dict[str, str]:
        """Return the domains in the grammar of ``--search``."""
        return {name: str(domain) for name, domain in self.domains.items()}


def split_words(words: Sequence[str]) -> dict[str, str]:
    """Return the domains of the words after ``--search`` by name, as text; empty for a name alone, which takes its default domain.

    Raises `ConfigError` for a name that stands twice.
    """
    found: dict[str, str] = {}
    for word in words:
        key, (_, equals, text) = option_name(word), word.partition("=")
        if not key or (equals and not text.strip()):
            raise ConfigError(f"--search {word!r}: expected {GRAMMAR}, or NAME alone for its default range")
        if key in found:
            raise ConfigError(f"--search {key}: the name stands twice; keep one of them")
        found[key] = text.strip()
    return found


def parse_domain(name: str, given: object, number: type | None, origin: str) -> Domain:
    """Return the domain that the text, the list or the single value `given` means for `name`; `origin` begins the messages.

    `number` is int or float for a numeric setting, else None, which has choices alone. Raises `ConfigError`, with the grammar.
    """
    if isinstance(given, str) and ".." in given:
        if number is None:
            raise ConfigError(f"{origin}: {name} takes no number, so it has no range; list its values: {name}=A,B")
        return _parse_range(name, given, number, origin)
    items = list(given) if isinstance(given, list | tuple) else given.split(",") if isinstance(given, str) else [given]
    values = tuple(value for item in items if (value := _parse_choice(item, number)) is not None)
    if len(values) < len(items):
        raise ConfigError(f"{origin}: {name} (={given}): expected {GRAMMAR}")
    if len(set(map(choice_text, values))) < max(2, len(values)):
        raise ConfigError(
            f"{origin}: {name} (={','.join(map(choice_text, values))}): a search needs at least two different values; "
            "give one value by its own flag, outside of the search"
        )
    return Choices(values)


def _parse_range(name: str, text: str, number: type, origin: str) -> Range:
    """Return the range in `text`: ``1e-4..1e-2:log``, ``0..0.5:step=0.1``."""
    ends, *marks = (part.strip() for part in text.split(":"))
    steps = [mark.removeprefix("step=") for mark in marks if mark.startswith("step=")]
    try:
        low, high = (float(end) for end in ends.split(".."))
        step = float(steps[0]) if steps else None
    except ValueError:
        raise ConfigError(f"{origin}: {name} (={text}): expected {GRAMMAR}") from None
    found = Range(low, high, "log" in marks, step, is_integer=number is int)
    if len(steps) > 1 or len(marks) != len(steps) + found.log:
        raise ConfigError(f"{origin}: {name} (={text}): expected {GRAMMAR}")
    if problem := _problem(found):
        raise ConfigError(f"{origin}: {name} (={text}): {problem}")
    return found


def _problem(given: Range) -> str:
    """Return the first problem of a range; an empty text if it has none."""
    low, high, step = given.low, given.high, given.step
    steps = 1.0 if step is None else (high - low) / step if step > 0 else 0.5
    is_whole = all(float(each).is_integer() for each in (low, high, step or 1.0) if math.isfinite(each))
    problems = {
        "LOW must be below HIGH, and both must be finite": not math.isfinite(low) or not math.isfinite(high) or low >= high,
        "a range by logarithm must start above 0": given.log and low <= 0,
        "the setting takes whole numbers": given.is_integer and not is_whole,
        "log and step exclude each other": given.log and step is not None,
        "HIGH - LOW must be a multiple of the step, which must be above 0": not abs(steps - round(steps))
        <= STEP_TOLERANCE * max(1.0, steps)
        if math.isfinite(steps)
        else True,
    }
    return next((text for text, is_met in problems.items() if is_met), "")


def _parse_choice(item: object, number: type | None) -> Value | None:
    """Return a choice: a number if its setting takes numbers and the text is one, true or false, else the text; None if it is no value."""
    if not isinstance(item, str):
        return item if isinstance(item, Value) else None
    text = item.strip()
    for kind in {int: (int, float), float: (float,)}.get(number, ()) if number else ():
        with suppress(ValueError):
            return kind(text)
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    return text or None


def choice_text(value: object) -> str:
    """Return a value as the command line reads it: ``true``, ``0.1``, ``strong``."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
