"""Load on ``cnnkit serve`` by wrk beside bare onnxruntime, and its stop under load; needs Linux and wrk.

    python docs/benchmarks/serve.py MODEL.onnx PHOTO [--clients 32 64] [--seconds 60]

Bare onnxruntime runs canvases one by one, before and after each load; their mean counts. wrk has a thread for each client, so that a
script of it can take the time of every request. Memory is the PSS of all processes of the server, once a second. At the end each
client sends requests until SIGTERM stops the server; a request without a whole response is lost.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from document import add_option, save

QUEUE = 16
BARE_SECONDS = 10
STOP_AFTER = 5.0  # seconds of load before SIGTERM
BARE = """
import json, sys, time
import numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
spec = json.loads(session.get_modelmeta().custom_metadata_map["preprocessing"])
edge = round(spec["image_size"] / spec["crop"]) if spec["resize_mode"] == "crop" else spec["image_size"]
images = numpy.random.default_rng(0).integers(0, 255, (1, edge, edge, 3), numpy.uint8)
for _ in range(5):
    session.run(["probabilities"], {"images": images})
began, count = time.monotonic(), 0
while time.monotonic() < began + float(sys.argv[2]):
    session.run(["probabilities"], {"images": images})
    count += 1
print(count / (time.monotonic() - began))
"""
WRK = """
local ffi = require("ffi")
ffi.cdef("typedef struct { long s; long ns; } timespec; int clock_gettime(int, timespec *);")
local stamp = ffi.new("timespec")
local function now() ffi.C.clock_gettime(1, stamp); return tonumber(stamp.s) + tonumber(stamp.ns) * 1e-9 end
local threads = {}
function setup(thread) table.insert(threads, thread) end
function init()
  local file = io.open(os.getenv("PHOTO"), "rb")
  body = file:read("*a")
  file:close()
  text, began = "", 0
end
function request() began = now(); return wrk.format("POST", "/predict", {["Content-Type"] = "image/jpeg"}, body) end
function response(status) text = text .. status .. " " .. string.format("%.6f", now() - began) .. " " end
function done(summary)
  io.write("RESPONSES")
  for _, thread in ipairs(threads) do io.write(" ", thread:get("text")) end
  io.write("\\n")
  local e = summary.errors
  io.write("ERRORS ", e.connect + e.read + e.write + e.timeout, "\\n")
end
"""


@dataclass
class Server:
    """A running server, its port, and the PSS of its processes in MB, once a second."""

    process: subprocess.Popen[str]
    port: int
    memory: list[float] = field(default_factory=list[float])

    def watch(self) -> None:
        """Note the memory until the server ends."""
        while self.process.poll() is None:
            try:
                family = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
                self.memory.append(sum(each.memory_full_info().pss for each in family) / 1e6)
            except psutil.Error:
                pass
            time.sleep(1)


def start(model: str) -> Server:
    """Start a server on a free port, and watch its memory."""
    command = [sys.executable, "-m", "cnnkit", "serve", "--model", model, "--port", "0", "--queue", str(QUEUE)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    line = process.stdout.readline() if process.stdout else ""
    server = Server(process, int(line.rpartition(":")[2]))
    threading.Thread(target=server.watch, daemon=True).start()
    return server


def bare(model: str) -> float:
    """Return the images/s of onnxruntime alone."""
    done = subprocess.run([sys.executable, "-c", BARE, model, str(BARE_SECONDS)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def load(port: int, photo: str, clients: int, seconds: int) -> tuple[dict[int, list[float]], int]:
    """Return the seconds of the responses by status, and the number of errors of the connections."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(WRK)
        script.flush()
        command = [
            "wrk",
            f"-t{clients}",
            f"-c{clients}",
            f"-d{seconds}s",
            "--timeout",
            "30s",
            "-s",
            script.name,
            f"http://127.0.0.1:{port}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PHOTO": photo})
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines() if line.startswith(("RESPONSES", "ERRORS")))
    words = lines["RESPONSES"].split()
    found: dict[int, list[float]] = {}
    for status, duration in zip(words[::2], words[1::2], strict=True):
        found.setdefault(int(status), []).append(float(duration))
    return found, int(lines["ERRORS"])


def stop_under_load(server: Server, photo: str, clients: int) -> dict[str, int]:
    """Stop the server while clients send requests; return the number of responses by status, and of requests without one."""
    body = Path(photo).read_bytes()
    outcomes: dict[str, int] = {}
    lock = threading.Lock()

    def send() -> None:
        while server.process.poll() is None:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            try:
                connection.connect()
            except OSError:
                return  # the server takes no more connections
            outcome = "lost"
            try:
                connection.request("POST", "/predict", body)
                response = connection.getresponse()
                outcome = str(response.status) if json.loads(response.read()) else "lost"
            except (OSError, http.client.HTTPException, ValueError):
                pass
            connection.close()
            with lock:
                outcomes[outcome] = outcomes.get(outcome, 0) + 1

    threads = [threading.Thread(target=send) for _ in range(clients)]
    for thread in threads:
        thread.start()
    time.sleep(STOP_AFTER)
    server.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    return outcomes


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="a file that cnnkit export wrote")
    parser.add_argument("photo", help="an image file, which every request holds")
    parser.add_argument("--clients", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--seconds", type=int, default=60)
    add_option(parser)
    given = parser.parse_args()
    server = start(given.model)
    family = psutil.Process(server.process.pid).children(recursive=True)
    rows: list[tuple[str, ...]] = []
    alone = [bare(given.model)]
    for clients in given.clients:
        before = len(server.memory)
        found, errors = load(server.port, given.photo, clients, given.seconds)
        alone.append(bare(given.model))
        accepted = np.array(found.get(200, [0.0]))
        rate, reference = len(accepted) / given.seconds, (alone[-1] + alone[-2]) / 2
        median, high = np.quantile(accepted, [0.5, 0.99])
        others = {status: len(times) for status, times in found.items() if status not in {200, 503}}
        row: tuple[Any, ...] = (
            clients, len(accepted), len(found.get(503, [])), sum(others.values()) + errors, f"{rate:.1f}", f"{reference:.1f}",
            f"{rate / reference:.2f}", f"{median:.2f}", f"{high:.2f}", f"{high / median:.2f}", f"{max(server.memory[before:]):.0f}",
        )  # fmt: skip
        rows.append(tuple(map(str, row)))
        print(
            "  ".join(rows[-1]),
            f" load {os.getloadavg()[0]:.1f}  memory {server.memory[before]:.0f} to {server.memory[-1]:.0f} MB",
            flush=True,
        )
    family += psutil.Process(server.process.pid).children(recursive=True)
    outcomes = stop_under_load(server, given.photo, given.clients[0])
    code = server.process.wait(60)
    _, left = psutil.wait_procs(family, timeout=10)
    print(f"stopped under load: responses {outcomes}, exit code {code}, {len(left)} processes left")
    columns = ("clients", "200", "503", "other", "images/s", "bare, images/s", "ratio", "median, s", "p99, s", "p99 / median", "PSS, MB")
    claim = f"With {rows[-1][0]} clients `cnnkit serve` reaches {rows[-1][6]} of the images/s of onnxruntime alone."
    save(given.json, "Server under load", claim, columns, rows)


if __name__ == "__main__":
    main()
