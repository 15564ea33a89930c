"""The space of a search: a range or a list of choices for each setting and option, as ``--search`` and ``--space`` write them.

The grammar is ``NAME=LOW..HIGH``, ``NAME=LOW..HIGH:log``, ``NAME=LOW..HIGH:step=S`` or ``NAME=A,B,C``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

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
        name, equals, text = word.partition("=")
        key = name.strip().replace("-", "_")
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
    items = given if isinstance(given, list) else given.split(",") if isinstance(given, str) else [given]
    values = tuple(_parse_choice(item, number) for item in items)
    if any(not isinstance(value, Value) or value == "" for value in values):
        raise ConfigError(f"{origin}: {name} (={given}): expected {GRAMMAR}")
    if len(set(map(choice_text, values))) < max(2, len(values)):
        raise ConfigError(
            f"{origin}: {name} (={_shown(values)}): a search needs at least two different values; "
            f"give one value by its own flag, outside of the search"
        )
    return Choices(values)


def _shown(values: Sequence[object]) -> str:
    return ",".join(map(str, values))


def _parse_range(name: str, text: str, number: type, origin: str) -> Range:
    """Return the range in `text`: ``1e-4..1e-2:log``, ``0..0.5:step=0.1``."""
    ends, *marks = (part.strip() for part in text.split(":"))
    log, step = "log" in marks, None
    try:
        low, high = (float(end) for end in ends.split(".."))
        for mark in marks:
            if mark != "log":
                word, _, size = mark.partition("=")
                if word != "step":
                    raise ValueError(mark)
                step = float(size)
    except ValueError:
        raise ConfigError(f"{origin}: {name} (={text}): expected {GRAMMAR}") from None
    problem = _range_problem(low, high, step, log=log, number=number)
    if problem:
        raise ConfigError(f"{origin}: {name} (={text}): {problem}")
    return Range(low, high, log, step, is_integer=number is int)


def _range_problem(low: float, high: float, step: float | None, *, log: bool, number: type) -> str:
    """Return what is wrong with a range; an empty text if it is right."""
    if not all(map(math.isfinite, (low, high, step or 0.0))) or low >= high:
        return "LOW must be below HIGH, both finite"
    if log and low <= 0:
        return "a range by logarithm must start above 0"
    if number is int and not all(float(each).is_integer() for each in (low, high, step or 1.0)):
        return "the setting takes whole numbers"
    if step is None:
        return ""
    if log:
        return "log and step exclude each other"
    steps = (high - low) / step if step > 0 else 0.5
    if abs(steps - round(steps)) > STEP_TOLERANCE * max(1.0, steps):
        return "HIGH - LOW must be a multiple of the step, which is above 0"
    return ""


def _parse_choice(item: object, number: type | None) -> object:
    """Return a choice as a number if its setting takes numbers and the text is one, true and false as such, else the text."""
    if not isinstance(item, str):
        return item
    text = item.strip()
    if number is not None:
        for kind in (int, float) if number is int else (float,):
            try:
                return kind(text)
            except ValueError:
                continue
    return {"true": True, "false": False}.get(text.lower(), text)


def choice_text(value: object) -> str:
    """Return a value as the command line reads it: ``true``, ``0.1``, ``strong``."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def iter_lines(space: SearchSpace) -> Iterator[str]:
    """Yield ``name=domain`` for each searched name."""
    yield from (f"{name}={text}" for name, text in space.to_dict().items())
