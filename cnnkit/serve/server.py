"""The HTTP server around the application: its socket, its time limits, and its end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from cnnkit.config.serving import ServeLimits
from cnnkit.errors import ConfigError, ServerStoppedError
from cnnkit.serve.app import Service, build_app
from cnnkit.serve.gate import MAX_BODY_SECONDS, MAX_HEADER_BYTES
from cnnkit.serve.model import ServedModel

HEADER_SECONDS = 10.0  # for the headers of a request, from the opening of the connection or the response before
ARRIVAL_SECONDS = 1.0  # for the request of a new connection when the server stops
MAX_CONNECTIONS = 512
STOP_SECONDS = MAX_BODY_SECONDS + 60  # for the requests that are accepted when the server stops
BACKLOG = 128
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class LimitedProtocol(H11Protocol):
    """A connection that must send the headers of each request within `HEADER_SECONDS`."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Accept a connection, unless there are `MAX_CONNECTIONS` already."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.write(BUSY)
            transport.close()
            return
        self._start_timer()

    def handle_events(self) -> None:
        """Handle what has arrived; the timer stops when the headers are complete."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._stop_timer()

    def on_response_complete(self) -> None:
        """Start the timer for the next request."""
        self._start_timer()
        super().on_response_complete()

    def shutdown(self) -> None:
        """Close the connection when the server stops; a request that is on its way gets `ARRIVAL_SECONDS`."""
        if self.cycle is None:  # pyright: ignore[reportUnnecessaryComparison] (None before the first request)
            self.loop.call_later(ARRIVAL_SECONDS, self._shut)
        else:
            super().shutdown()

    def _shut(self) -> None:
        if not self.transport.is_closing():
            super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        self._stop_timer()
        super().connection_lost(exc)

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(HEADER_SECONDS, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Server(uvicorn.Server):
    """A server that stops at the first of `signals`, at once at the second, and when its model cannot be run."""

    def __init__(self, config: uvicorn.Config, service: Service, signals: Sequence[int], started: Callable[[], None]) -> None:
        super().__init__(config)
        self._service = service
        self._signals = signals
        self._announce = started
        self.received: int | None = None
        service.is_stopping = lambda: self.should_exit

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then announce it."""
        await super().startup(sockets)
        self._announce()

    async def on_tick(self, counter: int) -> bool:
        """Return True if the server must stop."""
        self.should_exit |= self._service.batcher.failed
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Handle the signals while the server runs; one that is switched off, as nohup does with SIGHUP, stays off."""
        previous = {number: signal.getsignal(number) for number in self._signals}
        handled = [number for number, handler in previous.items() if handler != signal.SIG_IGN]
        try:
            for number in handled:
                signal.signal(number, self._stop)
            yield
        finally:
            for number in handled:
                signal.signal(number, previous[number])

    def _stop(self, number: int, _: object) -> None:
        self.force_exit = self.received is not None
        self.received = number
        self.should_exit = True


def serve(
    model: ServedModel,
    limits: ServeLimits,
    *,
    host: str,
    port: int,
    started: Callable[[str], None],
    signals: Sequence[int] = (),
) -> int | None:
    """Serve `model` until one of `signals` arrives, and return that signal; accepted requests get their responses first.

    `started` is called with the address when the server accepts requests; the port 0 stands for a free one. Raises `ConfigError` if the
    address cannot be used, and `ServerStoppedError` if the model cannot be run any more.
    """
    listening = _listen(host, port)
    number = listening.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    service = Service(model, limits)
    server = _Server(_configuration(service), service, signals, lambda: started(f"http://{shown}:{number}"))
    try:
        server.run([listening])
    finally:
        listening.close()
    if service.batcher.failed:
        raise ServerStoppedError(f"{model.path}: the model cannot be run any more, so the server stopped; type the same command again")
    return server.received


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=BACKLOG)
    except OSError as error:
        reason = (
            os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        )  # a name that is unknown has a negative number
        raise ConfigError(f"--host {host} --port {port}: {reason}; choose another port, or --port 0 for any free one") from None


def _configuration(service: Service) -> uvicorn.Config:
    for name in ("uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).setLevel(logging.ERROR)  # a line for every broken request would fill a disk
    options: dict[str, Any] = {
        "http": LimitedProtocol,
        "ws": "none",
        "loop": "asyncio",
        "lifespan": "on",
        "access_log": False,
        "log_config": None,
        "server_header": False,
        "proxy_headers": False,
        "timeout_keep_alive": int(HEADER_SECONDS),
        "timeout_graceful_shutdown": int(STOP_SECONDS),
        "h11_max_incomplete_event_size": MAX_HEADER_BYTES,
        "backlog": BACKLOG,
    }
    return uvicorn.Config(build_app(service), **options)
