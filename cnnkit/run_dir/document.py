"""JSON documents of a run directory: frozen values with a format number, checked field by field on reading."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, ValidationError

from cnnkit.errors import ModelFileError, closest, cut
from cnnkit.files import parse_json, read_checked

MAX_PROBLEMS = 3  # the number of problems that one message names
MAX_VALUE_LENGTH = 60  # the number of characters that a message shows of a value
UPGRADE = "pip install --upgrade cnnkit"
_JSON_MESSAGES = {  # by pydantic's type of error, where pydantic's own message names a Python type
    "missing": "is missing",
    "extra_forbidden": "is unknown to this version of cnnkit",
    "model_type": "must be a JSON object",
    "dict_type": "must be a JSON object",
    "tuple_type": "must be a JSON list",
    "path_type": "must be text",
}


def _text(value: object) -> str:
    """Return `value` if it is text; pydantic's own check refuses file names that are not UTF-8, which JSON and Python can hold."""
    if not isinstance(value, str):
        raise ValueError("must be text")  # noqa: TRY004 (pydantic collects a ValueError)
    return value


# JSON values have types, so none is converted: "3" is not a number and 1 is not true.
Text = Annotated[str, PlainValidator(_text)]
Count = Annotated[int, Field(strict=True, ge=0)]
Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]
YesNo = Annotated[bool, Field(strict=True)]


class Part(BaseModel):
    """A JSON object inside a document; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class UnreadableImage(Part):
    """An image that was left out: its path and the error."""

    path: Text
    error: Text


class Document(Part):
    """A JSON document with the number of its format; a document without a number has format 1, the oldest.

    A new format gets its number here and a reader for each older format, so that a later cnnkit can read every run.
    """

    newest_format: ClassVar[int] = 1

    format: Annotated[int, Field(strict=True, ge=1)] = 1


D = TypeVar("D", bound=Document)
B = TypeVar("B", bound=BaseModel)


def read_document(file: Path, kind: type[D], remedy: str) -> D:
    """Return the document of `kind` in `file`; raise `ModelFileError` that names the file, the field and the `remedy`."""
    try:
        value = parse_json(read_checked(file, remedy).decode("utf-8"))
    except OSError as error:
        raise ModelFileError(f"{file}: cannot be read: {error.strerror or error}; {remedy}") from None
    except ValueError as error:
        raise ModelFileError(f"{file}: not a JSON document ({error}); {remedy}") from None
    number = value.get("format") if isinstance(value, dict) else None
    if isinstance(number, int) and number > kind.newest_format:
        raise ModelFileError(
            f"{file}: `format` (={number}) is too new; this cnnkit reads formats up to {kind.newest_format}; upgrade it: {UPGRADE}"
        )
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise ModelFileError(_damage_message(file, kind, error.errors(), remedy)) from None


def strict_model(model: type[B], later: Mapping[str, object]) -> BeforeValidator:
    """Return a validator for a JSON object that is a `model` of another package, such as `TrainConfig`.

    Such a model converts text to numbers and has defaults. The validator refuses values of other types and missing keys. Only the
    fields in `later`, an object of the same form, may be missing: they are newer than the oldest format, and older files mean the
    values in `later`.
    """

    def check(value: object) -> B:
        whole = _with_later(value, later)
        parsed = model.model_validate(whole)
        if isinstance(value, model):
            return parsed
        if found := list(_differences(whole, parsed.model_dump(mode="json"), ())):
            raise ValidationError.from_exception_data(model.__name__, found)
        return parsed

    return BeforeValidator(cast("Callable[[Any], Any]", check))


def _with_later(read: object, later: Mapping[str, object]) -> object:
    """Return the JSON value `read` with the fields of `later` that it lacks; a part that `read` lacks stays missing."""
    if not isinstance(read, Mapping):
        return read
    whole = {**read}
    for name, value in later.items():
        if not isinstance(value, Mapping):
            whole.setdefault(name, value)
        elif name in whole:
            whole[name] = _with_later(whole[name], value)
    return whole


def _differences(read: object, expected: object, location: tuple[str, ...]) -> Iterator[Any]:
    """Yield an error for each field of `expected` that `read` lacks or holds as another type; both are JSON values at `location`."""
    if isinstance(read, Mapping) and isinstance(expected, Mapping):
        for key, value in expected.items():
            name = (*location, str(key))
            if key in read:
                yield from _differences(read[key], value, name)
            else:
                yield {"type": "missing", "loc": name, "input": dict(read)}
    elif not _equal(read, expected):
        problem = ValueError(f"must be {_excerpt(expected)}, as cnnkit writes it")
        yield {"type": "value_error", "loc": location, "input": read, "ctx": {"error": problem}}


def _equal(one: object, other: object) -> bool:
    """Return True if two JSON values are equal and of one type, in which true is not 1."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def _damage_message(file: Path, kind: type[Document], errors: Sequence[Mapping[str, Any]], remedy: str) -> str:
    """Return the message on the first `MAX_PROBLEMS` of the `errors` in `file`, with the remedy."""
    problems = "; ".join(_problem(error, kind) for error in errors[:MAX_PROBLEMS])
    more = f" and {len(errors) - MAX_PROBLEMS} more" if len(errors) > MAX_PROBLEMS else ""
    unknown = any(error["type"] == "extra_forbidden" for error in errors)
    upgrade = f"; if a newer cnnkit wrote it: {UPGRADE}" if unknown else ""
    return f"{file}: {problems}{more}{upgrade}; {remedy}"


def _problem(error: Mapping[str, Any], kind: type[Document]) -> str:
    """Return one of pydantic's errors in the words of JSON: the field, its value and the allowed values."""
    name = ".".join(str(part) for part in error["loc"])
    field = f"`{name if name.isprintable() else ascii(name)}`" if name else "the document"
    if error["type"] == "extra_forbidden" and len(error["loc"]) == 1:
        return f"{field} {_JSON_MESSAGES['extra_forbidden']}{closest(name, kind.model_fields).rstrip('.')}"
    if error["type"] in {"missing", "extra_forbidden"}:
        return f"{field} {_JSON_MESSAGES[error['type']]}"
    message = error["msg"].replace("Input should", "must").replace("Tuple should", "must").replace(" after validation", "")
    if error["type"] == "value_error":
        message = message.removeprefix("Value error, ")
        if isinstance(error["input"], dict):  # a rule over several fields; its message names them
            return f"{field}: {message}"
    return f"{field} (={_excerpt(error['input'])}) {_JSON_MESSAGES.get(error['type'], message[:1].lower() + message[1:])}"


def _excerpt(value: object) -> str:
    """Return a value of a file in one line of ASCII characters, at most `MAX_VALUE_LENGTH` of them."""
    return cut(json.dumps(value, default=str), MAX_VALUE_LENGTH)
