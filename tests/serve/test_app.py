from __future__ import annotations

import base64
import io
import json
import re
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnkit.config.serving import ServeLimits
from cnnkit.serve import gate, uploads
from cnnkit.serve.inference_protocol import LENGTH_HEADER


def encoded(colour: tuple[int, int, int], size: tuple[int, int] = (37, 23), kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 60, (size[1], size[0], 3), np.uint8) + np.array(colour, np.uint8)).save(file, kind)
    return file.getvalue()


RED, GREEN, GRAY = encoded((190, 0, 0)), encoded((0, 190, 0), kind="JPEG"), encoded((90, 90, 90), (500, 401))


def form(files: dict[str, bytes], field: str = "images") -> tuple[bytes, str]:
    parts = [
        f'--edge\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\nContent-Type: image/png\r\n\r\n'.encode() + data
        for name, data in files.items()
    ]
    return b"\r\n".join([*parts, b"--edge--\r\n"]), "multipart/form-data; boundary=edge"


def error(response, code: int) -> str:
    assert response.code == code, response.body
    return response.json()["error"]


def test_a_raw_image_has_the_row_of_cnnkit_predict(client, colour_model, cli, tmp_path):
    for name, data in {"red.png": RED, "green.jpg": GREEN, "gray.png": GRAY}.items():
        (tmp_path / name).write_bytes(data)
        (expected,) = cli("predict", tmp_path / name, "--model", colour_model, "--json", "--probabilities", "--top", 3).json()
        response = client.predict(data, "?top=3&probabilities=true")
        assert response.code == 200
        assert response.json() == {"model": "colours", "predictions": [{**expected, "path": ""}]}


def test_a_gray_image_has_no_sure_class_and_several_labels(client):
    (row,) = client.predict(GRAY).json()["predictions"]
    assert row["abstained"] is True
    assert len(row["label_set"]) > 1
    assert row["top"][0] == {"class": row["predicted"], "probability": row["probability"]}
    assert len(row["top"]) == 3


def test_forms_and_json_hold_several_images_in_their_order(client):
    body, kind = form({"a/../../etc/passwd": RED, "b.jpg": GREEN, "broken.png": RED[:60]})
    rows = client.predict(body, Content_Type=kind).json()["predictions"]
    assert [row["predicted"] for row in rows] == ["red", "green", None]
    assert [row["path"] for row in rows] == ["a/../../etc/passwd", "b.jpg", "broken.png"]
    assert rows[2]["error"] == "the file is truncated"
    document = json.dumps({"images": [base64.b64encode(data).decode() for data in (RED, GREEN, RED[:60])]}).encode()
    again = client.predict(document, Content_Type="application/json").json()["predictions"]
    assert [{**row, "path": ""} for row in rows] == again


def test_a_request_without_a_readable_image_has_the_reason_and_status_422(client):
    response = client.predict(b"no image at all")
    assert response.code == 422
    assert response.json()["predictions"][0]["error"].startswith("not an image in a supported format")


NO_UTF8_FORM = b'--edge\r\nContent-Disposition: form-data; name="\xff"\r\n\r\nx\r\n--edge--\r\n'


@pytest.mark.parametrize(
    ("kind", "body", "code", "message"),
    [
        ("image/png", b"", 400, "the request holds no image; send the bytes of one: curl"),
        ("application/json", b'{"images": ["/etc/passwd"]}', 400, "images[0]: no base64 text; send the bytes of the file in base64"),
        ("application/json", b'{"images": ["http://localhost/a.png"]}', 400, "images[0]: no base64 text"),
        ("application/json", b'{"images": [3]}', 400, "images[0]: expected the base64 text of an image file, got"),
        ("application/json", b'{"url": "http://localhost/"}', 400, "unknown field 'url'; expected {\"images\": [\"BASE64\", ...]}"),
        ("application/json", b'{"images": "AAAA"}', 400, "the field images is missing or no list"),
        ("application/json", b"[1]", 400, "the JSON body is no object"),
        ("application/json", b"{", 400, "the body is no JSON document"),
        ("application/json", b"[" * 100_000, 400, "nested too deeply"),
        ("application/json", b'{"images": ["\xff"]}', 400, "not UTF-8; for an image file leave out the JSON type: curl"),
        ("application/json", b"", 400, "the body is empty; send a JSON document"),
        ("multipart/form-data", b"--edge--", 400, "the form cannot be read: Empty boundary"),
        ("multipart/form-data; boundary=edge", b"--edge\r\n", 400, "the form cannot be read"),
        ("multipart/form-data; boundary=edge", NO_UTF8_FORM, 400, "the form cannot be read: a name in it is not UTF-8"),
    ],
)  # fmt: skip
def test_a_body_that_holds_no_images_is_refused_with_the_reason(client, kind, body, code, message):
    assert message in error(client.predict(body, Content_Type=kind), code)


def test_a_text_field_is_refused_by_its_name(client):
    body = b'--edge\r\nContent-Disposition: form-data; name="path"\r\n\r\n/etc/passwd\r\n--edge--\r\n'
    message = error(client.predict(body, Content_Type="multipart/form-data; boundary=edge"), 400)
    assert message == "the field 'path' is text; the form may hold image files alone"


def test_parts_of_a_form_and_their_headers_have_limits(client, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_IMAGES", 3)
    body, kind = form({str(index): RED for index in range(4)})
    assert "more than 3 images in one request" in error(client.predict(body, Content_Type=kind), 413)
    headers = b"".join(b"x%d: y\r\n" % index for index in range(5000))
    body = b'--edge\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n' + headers + b"\r\n\r\n--edge--\r\n"
    assert "header count" in error(client.predict(body, Content_Type=kind), 400)


def test_a_document_of_many_values_is_refused_before_it_is_parsed(client, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_JSON_VALUES", 100)
    body = b'{"images": [' + b"[]," * 100 + b"1]}"
    assert "holds more than 100 values" in error(client.predict(body, Content_Type="application/json"), 413)


def test_a_wrong_query_names_its_parameter(client):
    assert error(client.predict(RED, "?top=0"), 400) == "?top=0: must be a whole number of at least 1, such as ?top=3"
    assert error(client.predict(RED, "?probabilities=perhaps"), 400) == "?probabilities=perhaps: must be true or false"
    assert error(client.predict(RED, "?topk=3"), 400) == "?topk: no such parameter; allowed: top, probabilities"
    assert len(client.predict(RED, "?top=99").json()["predictions"][0]["top"]) == 3


def test_a_compressed_body_is_refused(client):
    assert "content-encoding 'gzip': the body must not be compressed" in error(client.predict(RED, Content_Encoding="gzip"), 415)


PATHS = ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/v2/models/other", "/v2/models/..%2fother", "/static/x"]


@pytest.mark.parametrize("path", PATHS)
def test_no_other_file_can_be_reached(client, path):
    assert "no such" in error(client.ask("GET", path), 404)
    assert "no such" in error(client.ask("GET", "/v2/models/colours/versions/2"), 404)


def test_a_wrong_method_is_refused(client):
    response = client.ask("GET", "/predict")
    assert error(response, 405) == "GET is not allowed here; allowed: POST"
    assert response.headers["allow"] == "POST"
    assert error(client.ask("DELETE", "/v2"), 405) == "DELETE is not allowed here; allowed: GET, HEAD"


def test_head_has_the_headers_of_get_without_the_body(client):
    for path in ("/", "/v2/health/ready"):
        head, get = client.ask("HEAD", path), client.ask("GET", path)
        assert (head.code, head.body) == (200, b"")
        assert head.headers["content-length"] == str(len(get.body))
        assert head.headers["content-security-policy"] == get.headers["content-security-policy"]


def test_a_full_queue_gives_503_and_asks_for_patience(client, monkeypatch):
    monkeypatch.setattr(client.service.batcher, "_limit", 0)
    monkeypatch.setattr("cnnkit.serve.gate.REFUSAL_SECONDS", 0.01)
    response = client.predict(RED)
    assert error(response, 503) == "the queue is full; try again"
    assert response.headers["retry-after"] == "1"
    assert error(client.ask("POST", "/v2/models/colours/infer", b"{}"), 503) == "the queue is full; try again"
    assert re.search(r'cnnkit_requests_total\{code="503",route="queue"\} [1-9]', client.ask("GET", "/metrics").body.decode())
    answers = iter([False, True])  # full after the body was read
    monkeypatch.setattr(type(client.service.batcher), "is_full", property(lambda _: next(answers)))
    assert error(client.predict(RED), 503) == "the queue is full; try again"


def test_sizes_of_bodies_and_images_have_limits(colour_model, serve_model, monkeypatch):
    monkeypatch.setattr(gate, "RESERVED_BODIES", 2)
    with serve_model(colour_model, ServeLimits(megabytes=0.1, megapixels=0.1)) as client:
        large = bytes(100_001)
        assert "larger than the limit of 0.1 MB" in error(client.predict(large), 413)
        assert "larger than the limit of 0.1 MB" in error(client.ask("POST", "/predict", iter([large])), 413)
        row = client.predict(encoded((0, 0, 0), (400, 300), "JPEG")).json()["predictions"][0]
        assert row["error"] == "400 x 300 pixels are more than the limit of 0.1 megapixels of this server; make the image smaller"
        pixels = json.dumps({"inputs": [tensor([1, 400, 300, 3], binary_data_size=360_000)]}).encode()
        assert client.ask("POST", "/v2/models/colours/infer", pixels + bytes(360_000)).code == 413
        client.service.bodies._free = 10
        assert "too many large requests" in error(client.predict(RED), 503)
        client.service.bodies._free = 200_000
        assert client.predict(RED).code == 200
        assert client.service.bodies._free == 200_000


def test_a_slow_body_is_refused(client, monkeypatch):
    monkeypatch.setattr(gate, "MAX_BODY_SECONDS", 0.2)
    found = client.send(b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nslow")
    assert found.startswith(b"HTTP/1.1 408 ")
    assert b"the body did not arrive within 0.2 s" in found


def test_many_headers_are_refused(client):
    few = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + b"a: b\r\n" * 200 + b"\r\n"
    assert client.send(few).startswith(b"HTTP/1.1 431 ")
    assert client.send(b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 10_000).startswith(b"HTTP/1.1 400 ")


# --- Open Inference Protocol v2 ---


def tensor(shape: list[int], name: str = "images", **parameters: object) -> dict[str, object]:
    return {"name": name, "datatype": "UINT8" if name == "images" else "BYTES", "shape": shape, "parameters": parameters}


def infer(client, request: dict[str, Any], binary: bytes = b"", path: str = "/v2/models/colours/infer"):
    text = json.dumps(request).encode()
    headers = {LENGTH_HEADER: str(len(text))} if binary else {}
    return client.ask("POST", path, text + binary, **headers)


def test_health_and_metadata(client):
    assert client.ask("GET", "/v2/health/live").code == 200
    assert client.ask("GET", "/v2/health/ready").json() == {"name": "colours", "ready": True}
    assert client.ask("GET", "/v2").json()["extensions"] == ["binary_tensor_data"]
    assert client.ask("GET", "/v2/models/colours/ready").json() == {"name": "colours", "ready": True}
    found = client.ask("GET", "/v2/models/colours/versions/1").json()
    assert found["versions"] == ["1"]
    assert {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]} in found["outputs"]


def test_pixels_and_files_have_the_predictions_of_predict(client):
    expected = client.predict(RED, "?probabilities=true").json()["predictions"][0]
    pixels = np.asarray(Image.open(io.BytesIO(RED)))
    flat = {**tensor([1, 23, 37, 3]), "data": pixels.ravel().tolist()}
    nested = {**tensor([1, 23, 37, 3]), "data": [pixels.tolist()]}
    files = {**tensor([1], "files"), "data": [base64.b64encode(RED).decode()]}
    for given in (flat, nested, files):
        found = infer(client, {"id": "7", "inputs": [given]}).json()
        assert (found["id"], found["model_name"], found["model_version"]) == ("7", "colours", "1")
        outputs = {output["name"]: output for output in found["outputs"]}
        assert outputs["probabilities"]["shape"] == [1, 3]
        assert outputs["probabilities"]["data"] == [expected[name] for name in ("red", "green", "blue")]
        assert (outputs["labels"]["data"], outputs["names"]["data"], outputs["abstained"]["data"]) == ([0], ["red"], [False])


def test_binary_tensors_go_both_ways(client):
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(RED)))] * 2)
    request = {"inputs": [tensor([2, 23, 37, 3], binary_data_size=pixels.nbytes)], "parameters": {"binary_data_output": True}}
    response = infer(client, request, pixels.tobytes())
    length = int(response.headers[LENGTH_HEADER.lower()])
    head, binary = json.loads(response.body[:length]), response.body[length:]
    assert [output["name"] for output in head["outputs"]] == ["probabilities", "labels", "names", "abstained"]
    assert sum(output["parameters"]["binary_data_size"] for output in head["outputs"]) == len(binary) == 24 + 16 + 14 + 2
    row = client.predict(RED, "?probabilities=true").json()["predictions"][0]
    assert np.frombuffer(binary[:24], np.float32).reshape(2, 3)[1].tolist() == [row["red"], row["green"], row["blue"]]
    assert binary[40:54] == (struct.pack("<I", 3) + b"red") * 2
    request = {
        "inputs": [tensor([1], "files", binary_data_size=len(RED) + 4)],
        "outputs": [{"name": "labels", "parameters": {"binary_data": False}}],
    }
    assert infer(client, request, struct.pack("<I", len(RED)) + RED).json()["outputs"] == [
        {"name": "labels", "datatype": "INT64", "shape": [1], "data": [0]}
    ]


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        ({}, 400, "inputs: Field required"),
        ({"inputs": []}, 400, "inputs: List should have at least 1 item"),
        ({"inputs": [tensor([1], "other")]}, 400, "inputs.0.name"),
        ({"inputs": [{**tensor([1, 2, 2, 4]), "data": [0] * 16}]}, 400, "expected UINT8 [N, H, W, 3]"),
        ({"inputs": [{**tensor([1, 2, 2, 3]), "data": [0] * 11}]}, 400, "needs 12 values, got 11"),
        ({"inputs": [{**tensor([1, 1, 1, 3]), "data": [0, 1, 256]}]}, 400, "whole numbers from 0 to 255"),
        ({"inputs": [{**tensor([1, 1, 1, 3]), "data": [0, 1, "x"]}]}, 400, "whole numbers"),
        ({"inputs": [{**tensor([1, 1, 1, 3]), "data": [[0], [1, 2]]}]}, 400, "whole numbers"),
        ({"inputs": [tensor([1, 1, 1, 3])]}, 400, "needs 3 values, got 0"),
        ({"inputs": [tensor([100_000, 1, 1, 3])]}, 413, "100000 images are more than the limit of 64"),
        ({"inputs": [tensor([1, 2**40, 2**40, 3])]}, 400, "needs"),
        ({"inputs": [{**tensor([2], "files"), "data": ["AAAA"]}]}, 400, "needs 2 files, got 1"),
        ({"inputs": [{**tensor([1], "files"), "data": ["AAAA"]}]}, 422, "files[0]: not an image"),
        ({"inputs": [{**tensor([1], "files"), "data": ["/etc/passwd!"]}]}, 400, "files[0]: no base64 text"),
        ({"inputs": [tensor([1], "files", binary_data_size=5)]}, 400, "0 bytes of binary data follow"),
    ],
)  # fmt: skip
def test_a_wrong_tensor_is_refused_with_the_reason(client, request_, code, message):
    assert message in error(infer(client, request_), code)


@pytest.mark.parametrize("length", ["-1", "x", "99999999", "1" * 5000, "²"])
def test_a_wrong_length_of_the_json_is_refused(client, length):
    start = "POST /v2/models/colours/infer HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n"
    found = client.send(f"{start}{LENGTH_HEADER}: {length}\r\n\r\n{{}}".encode())
    assert found.startswith(b"HTTP/1.1 400 ")


def test_elements_that_do_not_fit_are_refused(client):
    for binary in (b"\x01", struct.pack("<I", 2**31) + b"x", struct.pack("<I", 0) * 200):
        request = {"inputs": [tensor([1], "files", binary_data_size=len(binary))]}
        assert "files" in error(infer(client, request, binary), 400)


# --- metrics and pages ---


def test_metrics_count_requests_images_and_batches(client):
    client.predict(RED)
    client.ask("GET", "/wp-login.php")
    text = client.ask("GET", "/metrics").body.decode()
    assert re.search(r'cnnkit_requests_total\{code="200",route="/predict"\} [1-9]', text)
    assert re.search(r'cnnkit_requests_total\{code="404",route="other"\} [1-9]', text)
    assert re.search(r'cnnkit_images_total\{outcome="predicted"\} [1-9]', text)
    assert "cnnkit_queue_length 0.0" in text
    assert re.search(r"cnnkit_batch_size_count [1-9]", text)
    assert "wp-login" not in text


def test_the_page_loads_nothing_from_elsewhere(client):
    response = client.ask("GET", "/")
    page = response.body.decode()
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["content-security-policy"] == "frame-ancestors 'none'"
    assert "default-src 'none'; img-src data: blob:; connect-src 'self'; style-src 'sha256-" in page
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", page)


def test_other_responses_have_a_policy_that_allows_nothing(client):
    for path in ("/openapi.json", "/v2", "/nothing", "/metrics"):
        headers = client.ask("GET", path).headers
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers
    assert client.ask("GET", "/docs").code == 404


def test_openapi_describes_the_bodies(client):
    found = client.ask("GET", "/openapi.json").json()
    assert set(found["paths"]["/predict"]["post"]["requestBody"]["content"]) == {"image/*", "multipart/form-data", "application/json"}
    assert "/v2/models/{name}/infer" in found["paths"]
