"""The text by which a user chooses a value of a package and its options: ``NAME:option=value,option=value``."""

from __future__ import annotations

from dataclasses import dataclass

from cnnkit.errors import ConfigError


@dataclass(frozen=True)
class Choice:
    """A name, which may be ``package:name``, and settings of options such as ``"gamma=1.5"``."""

    name: str
    settings: tuple[str, ...] = ()


def parse_choice(text: str, flag: str) -> Choice:
    """Return the choice that `text`, the value of `flag`, describes.

    The settings start after the last colon before the first equals sign, so a value may hold a colon, but no comma. Raises
    `ConfigError` for a text without a name or with an empty setting.
    """
    head, equals, rest = text.partition("=")
    name, colon, option = head.rpartition(":") if equals else (head, "", "")
    if not name.strip() or (equals and not colon):
        raise ConfigError(f"{flag} {text!r}: expected NAME, or NAME:option=value,option=value")
    settings = tuple(setting.strip() for setting in f"{option}={rest}".split(",")) if equals else ()
    if not all(settings):
        raise ConfigError(f"{flag} {text!r}: a setting is empty; write {name}:option=value,option=value")
    return Choice(name.strip(), settings)
