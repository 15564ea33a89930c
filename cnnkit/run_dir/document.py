"""JSON documents of a run directory: frozen values, checked field by field when they are read, with the number of their format."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, ValidationError

from cnnkit.errors import ModelFileError, closest

MAX_PROBLEMS = 3  # named in one message
MAX_VALUE_LENGTH = 60  # characters of a value in a message
UPGRADE = "pip install --upgrade cnnkit"
_JSON_WORDS = {  # for pydantic's errors that speak of Python
    "missing": "is missing",
    "extra_forbidden": "is no key that this cnnkit knows",
    "model_type": "must be a JSON object",
    "dict_type": "must be a JSON object",
    "tuple_type": "must be a JSON list",
    "path_type": "must be text",
}


def _text(value: object) -> str:
    """Return `value` if it is text; pydantic's own check refuses file names that are no UTF-8, which JSON and Python can hold."""
    if not isinstance(value, str):
        raise ValueError("must be text")  # noqa: TRY004 (pydantic collects a ValueError)
    return value


# JSON knows its types, so none is converted: "3" is no number and 1 is not true.
Text = Annotated[str, PlainValidator(_text)]
Count = Annotated[int, Field(strict=True, ge=0)]
Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]
YesNo = Annotated[bool, Field(strict=True)]


class Part(BaseModel):
    """A JSON object inside a document; a key that it does not have is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class UnreadableImage(Part):
    """An image that was left out: its path and the reason."""

    path: Text
    error: Text


class Document(Part):
    """A JSON document with the number of its format; one without a number is of format 1, the oldest.

    A new format has its number here and a reader for each older one, so that every run can be read by a later cnnkit.
    """

    newest_format: ClassVar[int] = 1

    format: Annotated[int, Field(strict=True, ge=1)] = 1


D = TypeVar("D", bound=Document)
B = TypeVar("B", bound=BaseModel)


def read_document(file: Path, kind: type[D], remedy: str) -> D:
    """Return the document of `kind` in `file`; raises `ModelFileError` that names the file, the field and the way out, `remedy`."""
    try:
        value = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ModelFileError(f"{file}: cannot be read: {error.strerror or error}; {remedy}") from None
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{file}: no JSON document ({error}); {remedy}") from None
    newer = value.get("format") if isinstance(value, dict) else None
    if isinstance(newer, int) and newer > kind.newest_format:
        raise ModelFileError(
            f"{file}: `format` (={newer}) is newer than this cnnkit, which knows formats up to {kind.newest_format}: {UPGRADE}"
        )
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise ModelFileError(_damage(file, kind, error.errors(), remedy)) from None


def borrowed(model: type[B], later: frozenset[str] = frozenset()) -> BeforeValidator:
    """Check a JSON object as a `model` of another room, which converts text to numbers and has defaults: a document needs neither.

    The dotted names `later` may be missing: fields that the oldest format does not have.
    """

    def check(value: object) -> B:
        kept = model.model_validate(value)
        if isinstance(value, model):
            return kept
        if found := list(_differences(value, kept.model_dump(mode="json"), (), later)):
            raise ValidationError.from_exception_data(model.__name__, found)
        return kept

    return BeforeValidator(cast("Callable[[Any], Any]", check))


def _differences(read: object, kept: object, place: tuple[str, ...], later: frozenset[str]) -> Iterator[Any]:
    """Yield an error for each field of `kept` that `read`, from which it was made, lacks or holds as another type."""
    if isinstance(read, Mapping) and isinstance(kept, Mapping):
        for key, value in kept.items():
            name = (*place, str(key))
            if key in read:
                yield from _differences(read[key], value, name, later)
            elif ".".join(name) not in later:
                yield {"type": "missing", "loc": name, "input": dict(read)}
    elif not _same(read, kept):
        problem = ValueError(f"must be {_shown(kept)}, as cnnkit writes it")
        yield {"type": "value_error", "loc": place, "input": read, "ctx": {"error": problem}}


def _same(one: object, other: object) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def _damage(file: Path, kind: type[Document], errors: Sequence[Mapping[str, Any]], remedy: str) -> str:
    """Return the message on the `errors` in `file`: the first of them, and what to do."""
    named = "; ".join(_problem(error, kind) for error in errors[:MAX_PROBLEMS])
    more = f" and {len(errors) - MAX_PROBLEMS} more" if len(errors) > MAX_PROBLEMS else ""
    unknown = any(error["type"] == "extra_forbidden" for error in errors)
    upgrade = f"; if a newer cnnkit wrote it: {UPGRADE}" if unknown else ""
    return f"{file}: {named}{more}{upgrade}; {remedy}"


def _problem(error: Mapping[str, Any], kind: type[Document]) -> str:
    name = ".".join(str(part) for part in error["loc"])
    field = f"`{name if name.isprintable() else ascii(name)}`" if name else "the document"
    if error["type"] == "extra_forbidden" and len(error["loc"]) == 1:
        return f"{field} {_JSON_WORDS['extra_forbidden']}{closest(name, kind.model_fields).rstrip('.')}"
    if error["type"] in {"missing", "extra_forbidden"}:
        return f"{field} {_JSON_WORDS[error['type']]}"
    said = error["msg"].replace("Input should", "must").replace("Tuple should", "must").replace(" after validation", "")
    if error["type"] == "value_error":
        said = said.removeprefix("Value error, ")
        if isinstance(error["input"], dict):  # a rule over several fields, which names them
            return f"{field}: {said}"
    return f"{field} (={_shown(error['input'])}) {_JSON_WORDS.get(error['type'], said[:1].lower() + said[1:])}"


def _shown(value: object) -> str:
    """Return a value of a file in one line of plain characters, shortened."""
    text = json.dumps(value, default=str)
    return text if len(text) <= MAX_VALUE_LENGTH else f"{text[: MAX_VALUE_LENGTH - 1]}…"
