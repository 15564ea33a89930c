"""Tensors of the Open Inference Protocol v2, as JSON and with its extension for binary data.

A request names one input: ``images``, decoded pixels, or ``files``, image files. See https://github.com/kserve/open-inference-protocol.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cnnkit.api.inference.predict import Prediction
from cnnkit.data.source import StoredImage
from cnnkit.serve.uploads import MAX_IMAGES, RequestError, decode_base64, read_json_body

VERSION = "1"  # of the model: a server has one
ONNX_SUFFIX = ".onnx"
LENGTH_HEADER = "Inference-Header-Content-Length"  # bytes of the JSON before the binary data
PIXELS_INPUT, FILES_INPUT = "images", "files"
MAX_DIMENSIONS = 4
COUNT_BYTES = 4  # before each element of a BYTES tensor


class Parameters(BaseModel):
    """The parameters of the extension for binary data; others are ignored, as the protocol allows."""

    model_config = ConfigDict(extra="ignore", strict=True)

    binary_data_size: int | None = Field(default=None, ge=0)
    binary_data: bool | None = None
    binary_data_output: bool | None = None


class InputTensor(BaseModel):
    """An input of a request."""

    name: Literal["images", "files"]
    datatype: Literal["UINT8", "BYTES"]
    shape: list[int] = Field(min_length=1, max_length=MAX_DIMENSIONS)
    data: list[Any] | None = Field(default=None, description="Numbers, nested or flat, or base64 texts of files.")
    parameters: Parameters = Parameters()


class RequestedOutput(BaseModel):
    """An output that the client asks for."""

    name: Literal["probabilities", "labels", "names", "abstained"]
    parameters: Parameters = Parameters()


class InferenceRequest(BaseModel):
    """The JSON part of a request."""

    id: str = Field(default="", max_length=1000)
    inputs: list[InputTensor] = Field(min_length=1, max_length=1)
    outputs: list[RequestedOutput] = Field(default=[], max_length=16)
    parameters: Parameters = Parameters()


class _Tensor(NamedTuple):
    """An output: its datatype, and its values in an array."""

    datatype: str
    values: NDArray[Any]


@dataclass(frozen=True)
class InferenceResponse:
    """The body of a response; `json_length` is the length of its JSON if binary data follow, else None."""

    body: bytes
    json_length: int | None


def model_metadata(name: str, classes: Sequence[str], suffix: str = ONNX_SUFFIX) -> dict[str, object]:
    """Return the metadata of the model: its inputs, of which a request has one, and its outputs; `suffix` is that of its file."""
    return {
        "name": name,
        "versions": [VERSION],
        "platform": "onnxruntime_onnx" if suffix == ONNX_SUFFIX else f"cnnkit_{suffix.removeprefix('.')}",
        "inputs": [
            {"name": PIXELS_INPUT, "datatype": "UINT8", "shape": [-1, -1, -1, 3]},
            {"name": FILES_INPUT, "datatype": "BYTES", "shape": [-1]},
        ],
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, len(classes)]},
            {"name": "labels", "datatype": "INT64", "shape": [-1]},
            {"name": "names", "datatype": "BYTES", "shape": [-1]},
            {"name": "abstained", "datatype": "BOOL", "shape": [-1]},
        ],
    }


def read_request(body: bytes, json_length: str | None) -> tuple[InferenceRequest, list[StoredImage]]:
    """Return the request and its images; `json_length` is the value of `LENGTH_HEADER`. Raises `RequestError` for any other body."""
    end = len(body) if json_length is None else _length(json_length, len(body))
    try:
        request = InferenceRequest.model_validate(read_json_body(body[:end]))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the body"
        raise RequestError(400, f"{where}: {first['msg']}; expected inputs with one tensor, images or files") from None
    tensor, binary = request.inputs[0], body[end:]
    if tensor.parameters.binary_data_size not in {None, len(binary)} or (binary and tensor.data is not None):
        raise RequestError(400, f"inputs.0: {len(binary)} bytes of binary data follow the JSON, which disagrees")
    images = _pixels(tensor, binary) if tensor.name == PIXELS_INPUT else _files(tensor, binary)
    return request, images


def write_response(
    request: InferenceRequest, name: str, predictions: Sequence[Prediction], probabilities: NDArray[np.float32]
) -> InferenceResponse:
    """Return the outputs that `request` asks for, or all of them."""
    values = {
        "probabilities": _Tensor("FP32", probabilities),
        "labels": _Tensor("INT64", probabilities.argmax(1).astype(np.int64)),
        "names": _Tensor("BYTES", np.array([prediction.label for prediction in predictions], np.object_)),
        "abstained": _Tensor("BOOL", np.array([prediction.abstained for prediction in predictions], np.bool_)),
    }
    wanted = request.outputs or [RequestedOutput.model_validate({"name": each}) for each in values]
    outputs: list[dict[str, object]] = []
    binary: list[bytes] = []
    for output in wanted:
        datatype, array = values[output.name]
        described: dict[str, object] = {"name": output.name, "datatype": datatype, "shape": list(array.shape)}
        chosen = output.parameters.binary_data
        if request.parameters.binary_data_output if chosen is None else chosen:
            binary.append(_to_bytes(array))
            outputs.append(described | {"parameters": {"binary_data_size": len(binary[-1])}})
        else:
            outputs.append(described | {"data": array.ravel().tolist()})
    head = {"model_name": name, "model_version": VERSION, "outputs": outputs} | ({"id": request.id} if request.id else {})
    text = json.dumps(head, allow_nan=False).encode()
    return InferenceResponse(b"".join([text, *binary]), len(text) if binary else None)


def _length(text: str, most: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(most)) and int(text) <= most):
        raise RequestError(400, f"{LENGTH_HEADER}: {text[:40]!r} is no length of the JSON in a body of {most} bytes")
    return int(text)


def _pixels(tensor: InputTensor, binary: bytes) -> list[StoredImage]:
    """Return the images of a tensor uint8 (N, H, W, 3)."""
    shape = tuple(tensor.shape)
    if tensor.datatype != "UINT8" or len(shape) != MAX_DIMENSIONS or shape[-1] != 3 or min(shape) < 1:  # noqa: PLR2004 (RGB)
        raise RequestError(400, f"images: got {tensor.datatype} {list(shape)}; expected UINT8 [N, H, W, 3] with at least one pixel")
    _check_count(shape[0])
    size = math.prod(shape)
    flat = np.frombuffer(binary, np.uint8) if tensor.data is None else _numbers(tensor.data)
    if flat.size != size:
        raise RequestError(400, f"images: the shape {list(shape)} needs {size} values, got {flat.size}")
    return list(flat.reshape(shape))


def _numbers(data: list[Any]) -> NDArray[np.uint8]:
    """Return nested or flat numbers as a flat array; raises `RequestError` for others than whole numbers from 0 to 255."""
    try:
        given = np.asarray(data).ravel()
    except ValueError:  # lists of different lengths
        given = np.empty(0)
    if given.dtype.kind not in "iu" or not 0 <= int(given.min()) <= int(given.max()) <= 255:  # noqa: PLR2004 (8 bits)
        raise RequestError(400, "images: the data must be whole numbers from 0 to 255, nested evenly or flat")
    return given.astype(np.uint8)


def _files(tensor: InputTensor, binary: bytes) -> list[StoredImage]:
    """Return the image files of a tensor of bytes (N,)."""
    if tensor.datatype != "BYTES" or len(tensor.shape) != 1 or tensor.shape[0] < 1:
        raise RequestError(400, f"files: got {tensor.datatype} {tensor.shape}; expected BYTES [N] with at least one file")
    _check_count(tensor.shape[0])
    if tensor.data is not None:
        found = [decode_base64(text, f"files[{index}]") for index, text in enumerate(tensor.data)]
    else:
        found = _elements(binary)
    if len(found) != tensor.shape[0]:
        raise RequestError(400, f"files: the shape {tensor.shape} needs {tensor.shape[0]} files, got {len(found)}")
    return [*found]


def _elements(binary: bytes) -> list[bytes]:
    """Return the elements of a BYTES tensor, each after its length; raises `RequestError` if a length does not fit."""
    found: list[bytes] = []
    at = 0
    while at < len(binary):
        start = at + COUNT_BYTES
        at = start + int.from_bytes(binary[at:start], "little")
        if start > len(binary) or at > len(binary) or len(found) > MAX_IMAGES:
            raise RequestError(400, "files: the lengths of the elements do not fit the binary data")
        found.append(binary[start:at])
    return found


def _to_bytes(array: NDArray[Any]) -> bytes:
    if array.dtype != np.object_:
        return array.tobytes()
    texts = [str(text).encode("utf-8", "backslashreplace") for text in array]
    return b"".join(part for text in texts for part in (len(text).to_bytes(COUNT_BYTES, "little"), text))


def _check_count(count: int) -> None:
    if count > MAX_IMAGES:
        raise RequestError(413, f"{count} images are more than the limit of {MAX_IMAGES} in one request; send several requests")


def describe_request(example: Mapping[str, object]) -> dict[str, object]:
    """Return the OpenAPI of a body with the schema of `InferenceRequest`."""
    return {"required": True, "content": {"application/json": {"schema": InferenceRequest.model_json_schema(), "example": dict(example)}}}
