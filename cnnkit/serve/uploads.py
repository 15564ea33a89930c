"""Images of a request to ``/predict``: a raw file, a form of files, or JSON with base64."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser, parse_options_header

from cnnkit.files import parse_json

MAX_IMAGES = 64  # in a request
MAX_NAME_LENGTH = 200  # characters of an image's name, which comes back in the response
MAX_JSON_VALUES = 2_000_000  # values of a document: each takes up to 60 times its text in memory
MAX_FORM_HEADER_BYTES = 1024  # of a line
FORM_TYPE, JSON_TYPE = "multipart/form-data", "application/json"
RAW_WAY = "curl --data-binary @photo.jpg"


class RequestError(Exception):
    """A request that is refused with the status `code` and a sentence."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Upload(NamedTuple):
    """The bytes of an image file, and the name that the client gave, which is never opened."""

    data: bytes
    name: str = ""


def read_uploads(content_type: str, body: bytes) -> list[Upload]:
    """Return the images of a request; raises `RequestError` for a body that is no list of at most `MAX_IMAGES` images."""
    kind, options = parse_options_header(content_type)
    if kind == FORM_TYPE:
        found = _form_uploads(options.get("boundary", ""), body)
    elif kind == JSON_TYPE:
        found = _json_uploads(body)
    else:
        found = [Upload(body)]
    if not found or not any(upload.data for upload in found):
        raise RequestError(400, f"the request holds no image; send the bytes of one: {RAW_WAY}")
    return found


def read_json_body(body: bytes) -> Any:
    """Return the value of a JSON body; raises `RequestError` for any other body, and for more than `MAX_JSON_VALUES` values."""
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MAX_JSON_VALUES:
        raise RequestError(413, f"the JSON body holds more than {MAX_JSON_VALUES:,} values; send tensors as binary data, images as files")
    if not body:
        raise RequestError(400, "the body is empty; send a JSON document")
    try:
        return parse_json(body.decode("utf-8"), finite=True)
    except UnicodeDecodeError:
        way = f"for an image file leave out the JSON type: {RAW_WAY}"
        raise RequestError(400, f"the body is no JSON document, because it is not UTF-8; {way}") from None
    except ValueError as error:
        raise RequestError(400, f"the body is no JSON document: {error}") from None


def decode_base64(text: object, where: str) -> bytes:
    """Return the bytes of a base64 text; raises `RequestError` that names `where` it stands."""
    if not isinstance(text, str):
        raise RequestError(400, f"{where}: expected the base64 text of an image file, got a value of type {type(text).__name__}")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RequestError(400, f"{where}: no base64 text; send the bytes of the file in base64, not a path or an address") from None


def _json_uploads(body: bytes) -> list[Upload]:
    document = read_json_body(body)
    example = 'expected {"images": ["BASE64", ...]}'
    if not isinstance(document, Mapping):
        raise RequestError(400, f"the JSON body is no object; {example}")
    fields = cast("Mapping[str, Any]", document)
    unknown = sorted(set(fields) - {"images"})
    images = fields.get("images")
    if unknown or not isinstance(images, list):
        problem = f"unknown field {unknown[0][:MAX_NAME_LENGTH]!r}" if unknown else "the field images is missing or no list"
        raise RequestError(400, f"{problem}; {example}")
    texts = cast("list[object]", images)
    _check_count(len(texts))
    return [Upload(decode_base64(text, f"images[{index}]")) for index, text in enumerate(texts)]


def _form_uploads(boundary: str, body: bytes) -> list[Upload]:
    found: list[Upload] = []
    segment: MultipartSegment | None = None
    chunks: list[bytes] = []
    try:
        with PushMultipartParser(
            boundary, max_header_size=MAX_FORM_HEADER_BYTES, max_segment_count=MAX_IMAGES, content_length=len(body), strict=True
        ) as parser:
            for event in parser.parse(body):
                if isinstance(event, MultipartSegment):
                    segment, chunks = event, []
                    if segment.filename is None:
                        name = (segment.name or "")[:MAX_NAME_LENGTH]
                        raise RequestError(400, f"the field {name!r} is text; the form may hold image files alone")
                elif event is not None:
                    chunks.append(bytes(event))
                elif segment is not None:
                    found.append(Upload(b"".join(chunks), (segment.filename or "")[:MAX_NAME_LENGTH]))
    except MultipartError as error:
        _check_count(len(found) + isinstance(error, ParserLimitReached))
        reason = "a name in it is not UTF-8" if any(isinstance(each, UnicodeError) for each in error.args) else str(error)
        raise RequestError(400, f"the form cannot be read: {reason}") from None
    return found


def _check_count(count: int) -> None:
    if count > MAX_IMAGES:
        raise RequestError(413, f"more than {MAX_IMAGES} images in one request; send them in several requests")
