"""The errors cnnkit raises on purpose; each carries the exit code of the command it ends.

A message says what was given, what is allowed and what to type next. The one error boundary (`cnnkit.cli.app`) prints it
without a traceback; anything that is not a `CnnkitError` is a bug.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

MAX_LISTED = 10  # names in a message: about two lines


class CnnkitError(Exception):
    """Base of all deliberate errors: refused before work started."""

    exit_code = 2


class ConfigError(CnnkitError):
    """A flag, recipe or configuration value that cannot be used."""


class DataError(CnnkitError):
    """A data source, image or split that cannot be used."""


class PluginError(CnnkitError):
    """An entry point that is missing, duplicated or does not load."""


class ModelFileError(CnnkitError):
    """A model file or run directory that cannot be used."""


class MissingExtraError(CnnkitError):
    """An optional package is needed for what was asked."""


class CheckFailedError(CnnkitError):
    """The work was done and its result does not pass the check that was asked for."""

    exit_code = 1


class TrainingStoppedError(CnnkitError):
    """Training ended in the middle; what was reached is kept and the message says how to go on."""

    exit_code = 3


def closest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'a' or 'b'?"`` for the names nearest to `name`, or ``"."``: either ends a sentence."""
    near = get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(repr(match) for match in near)}?" if near else "."


def shortened(names: Iterable[str], most: int = MAX_LISTED) -> list[str]:
    """Return `names`; of more than `most` the first, then ``7 more``."""
    found = list(names)
    return found if len(found) <= most else [*found[:most], f"{len(found) - most:,} more"]


def listed(names: Iterable[str], most: int = MAX_LISTED, separator: str = ", ") -> str:
    """Return ``a, b, c`` or, of more than `most` names, ``a, b, c and 7 more``; with line breaks as `separator`, one name a line."""
    found = list(names)
    text = separator.join(found[:most])
    if len(found) <= most:
        return text
    return f"{text}{separator if separator.isspace() else ' '}and {len(found) - most:,} more"
