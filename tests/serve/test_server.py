from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import psutil
import pytest

from cnnkit.api.inference.target import Target
from cnnkit.config.serving import ServeLimits
from cnnkit.errors import ConfigError, ServerStoppedError
from cnnkit.serve import server as serving
from cnnkit.serve.model import ServedModel

GET = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n"
SECONDS = 120


def test_a_connection_that_sends_no_headers_is_closed(client, monkeypatch):
    monkeypatch.setattr(serving, "HEADER_SECONDS", 0.3)
    began = time.monotonic()
    assert client.send(b"GET / HTTP/1.1\r\nhost: x\r\nslow: ") == b""
    assert time.monotonic() - began < SECONDS
    with client.connect() as opened:
        opened.sendall(GET)
        found = b""
        while not found.endswith(b'{"live":true}'):
            found += opened.recv(1 << 16)
        assert _drip(opened) == b""


def _drip(opened: socket.socket) -> bytes:
    """Send the headers of a second request byte by byte until the server closes the connection."""
    end = time.monotonic() + SECONDS
    try:
        while time.monotonic() < end:
            opened.sendall(b"G")
            opened.settimeout(0.05)
            try:
                return opened.recv(10)
            except TimeoutError:
                continue
    except OSError:
        return b""
    return b"still open"


def test_connections_beyond_the_limit_are_refused(client, monkeypatch):
    monkeypatch.setattr(serving, "MAX_CONNECTIONS", 2)
    kept = [client.connect() for _ in range(2)]
    try:
        for opened in kept:
            opened.sendall(GET)
            assert opened.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        assert client.send(b"").startswith(b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n")
    finally:
        for opened in kept:
            opened.close()


def test_an_address_in_use_is_an_error(client):
    with pytest.raises(ConfigError, match=r"--host 127.0.0.1 --port \d+: Address already in use; choose another port, or --port 0"):
        serving._listen("127.0.0.1", client.port)


def test_the_ipv6_loopback_is_an_address():
    with serving._listen("::1", 0) as listening:
        assert listening.getsockname()[0] == "::1"


def test_a_model_that_fails_stops_the_server_with_an_error(colour_model):
    model = ServedModel(Target(colour_model, None))
    port: list[int] = []

    def break_model(address: str) -> None:
        port.append(int(address.rpartition(":")[2]))
        model._classifier._session._end()  # pyright: ignore[reportAttributeAccessIssue] (a process, as sessions have where this test runs)

    def ask() -> None:
        while not port:
            time.sleep(0.01)
        with _connected(port[0]) as opened:
            opened.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 22\r\n\r\nP6 1 1 255\n" + bytes(11))
            assert opened.recv(1 << 16).startswith(b"HTTP/1.1 500 ")

    client = threading.Thread(target=ask)
    client.start()
    with pytest.raises(ServerStoppedError, match=r"colours\.onnx: the model cannot be run any more, so the server stopped"):
        serving.serve(model, ServeLimits(), host="127.0.0.1", port=0, started=break_model)
    client.join()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_after_accepted_requests(colour_model, number, tmp_path):
    command = [sys.executable, "-m", "cnnkit", "serve", "--model", str(colour_model), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    assert process.stdout is not None
    port = int(process.stdout.readline().rpartition(":")[2])
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    opened = [_connected(port) for _ in range(8)]
    body = b"no image"
    for each in opened:  # the requests are accepted, their bodies come after the signal
        each.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 8\r\n\r\n" + body[:3])
    _wait_for_requests(port)
    process.send_signal(number)
    time.sleep(0.5)
    found: list[bytes] = []

    def finish(each: socket.socket) -> None:
        each.sendall(body[3:])
        found.append(each.recv(1 << 16))
        each.close()

    threads = [threading.Thread(target=finish, args=(each,)) for each in opened]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [response.partition(b"\r\n")[0] for response in found] == [b"HTTP/1.1 422 Unprocessable Entity"] * 8
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 128 + number
    assert "Traceback" not in err
    assert psutil.wait_procs(children, timeout=SECONDS)[1] == []


def _connected(port: int) -> socket.socket:
    opened = socket.socket()
    opened.settimeout(SECONDS)
    opened.connect(("127.0.0.1", port))
    return opened


def _wait_for_requests(port: int) -> None:
    """Return when the server has taken the requests before this one."""
    with _connected(port) as opened:
        opened.sendall(GET)
        assert opened.recv(1 << 16)
