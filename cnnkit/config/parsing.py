"""Parsers of the values of flags and configuration files: lists of numbers, words, durations, ``auto``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any
from unicodedata import normalize

from pydantic import BeforeValidator, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from cnnkit.errors import shell_word


def flag(field: str) -> str:
    """Return the command-line flag of a field: ``batch_size`` -> ``--batch-size``."""
    return "--" + field.replace("_", "-")


def command_line(given: dict[str, Any], recipe: str | None = None, config: Path | None = None) -> str:
    """Return the typed flags for the command line of ``cnnkit train``, each after a space."""
    typed_words: list[str] = []
    for name, value in (*given.items(), ("recipe", recipe), ("config", config)):
        typed = flag(name)
        if isinstance(value, bool):
            typed_words.append(typed if value else typed.replace("--", "--no-", 1))
        elif value is not None:
            for each in value if isinstance(value, list) else [value]:
                typed_words += [typed, str(each)]
    return "".join(f" {shell_word(word)}" for word in typed_words)


def numbers(separator: str) -> BeforeValidator:
    """Return a validator that reads ``"0.8,1.2"`` as the tuple (0.8, 1.2), for the `separator` ``,``."""

    def parse(value: object) -> object:
        if isinstance(value, str):
            try:
                return tuple(float(part) for part in value.split(separator))
            except ValueError:
                raise ValueError(f"must be numbers separated by {separator!r}") from None
        return value

    return BeforeValidator(parse)


def number_or_auto(allowed: str) -> WrapValidator:
    """Return a validator that accepts only the word ``auto`` or a number, which `allowed` describes in the error."""

    def parse(value: object, check: ValidatorFunctionWrapHandler) -> object:
        try:
            return check(value)
        except ValidationError:
            raise ValueError(f"must be {allowed}, or auto") from None

    return WrapValidator(parse)


def duration(value: object) -> object:
    """Read ``"10m"``, ``"90s"``, ``"1h30m"`` or a number of seconds as seconds."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", value.strip().lower())
    if not found or not any(found.groups()):
        raise ValueError("must be a time such as 90s, 10m or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds


def words(value: object) -> object:
    """Read ``"a, b"`` as the tuple ("a", "b"), each in Unicode's composed form (NFC), which the names of classes have."""
    given = value.split(",") if isinstance(value, str) else value
    if not isinstance(given, list | tuple) or not all(isinstance(word, str) for word in given):
        return value
    return tuple(normalize("NFC", word.strip()) for word in given if word.strip())


Duration = Annotated[float, BeforeValidator(duration)]  # seconds, given as 1h30m, for example
Words = Annotated[tuple[str, ...], BeforeValidator(words)]  # given as a,b, for example
