"""The gate before the application: it limits headers, body and time of each request, sets headers, and counts responses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cnnkit.serve.metrics import OTHER_ROUTE, ServerMetrics
from cnnkit.serve.uploads import RequestError

MAX_HEADERS = 100
MAX_HEADER_BYTES = 16_384
MAX_BODY_SECONDS = 30.0
RESERVED_BODIES = 8  # bodies of the largest size whose bytes may be in memory at once
# A client that repeats a refused request at once would take the time of the network: see docs/benchmarks/LOG.md, "Server under load".
REFUSAL_SECONDS = 1.0
QUEUE_ROUTE = "queue"  # in the metrics: requests that a full queue refused, before the application saw them
RETRY_SECONDS = 1
POLICY = "default-src 'none'; frame-ancestors 'none'"
PAGE_POLICY = "frame-ancestors 'none'"  # the rest of the page's policy stands in its head
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def refusal(code: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return the response of an error: the key ``error`` has a sentence, as in the Open Inference Protocol."""
    retry = {"retry-after": str(RETRY_SECONDS)} if code == 503 else {}  # noqa: PLR2004
    return JSONResponse({"error": message}, code, {**retry, **(headers or {})})


async def refuse_slowly() -> JSONResponse:
    """Return the response of a full queue, after a pause in which the client waits."""
    await asyncio.sleep(REFUSAL_SECONDS)
    return refusal(503, "the queue is full; try again")


class BodyReader:
    """Reads bodies of at most `limit` bytes each, and of `RESERVED_BODIES` times `limit` together."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._free = RESERVED_BODIES * limit

    async def use(self, request: Request, use: Callable[[bytes], Coroutine[Any, Any, Any]]) -> Any:
        """Return the result of `use` for the body; raises `RequestError` for a body that is too large, too slow or packed."""
        kind = request.headers.get("content-encoding", "identity").strip().lower()
        if kind != "identity":
            raise RequestError(415, f"content-encoding {kind[:40]!r}: the body must not be compressed; image files are compressed already")
        length = request.headers.get("content-length", "")
        self._check(int(length) if length.isdecimal() else 0)
        parts: list[bytes] = []
        try:
            await self._read(request, parts)
            return await use(b"".join(parts))
        finally:
            self._free += sum(map(len, parts))

    async def _read(self, request: Request, parts: list[bytes]) -> None:
        """Append the parts of the body to `parts`."""
        held = 0
        try:
            async with asyncio.timeout(MAX_BODY_SECONDS):
                async for part in request.stream():
                    parts.append(part)
                    held += len(part)
                    self._free -= len(part)
                    self._check(held)
        except TimeoutError:
            raise RequestError(408, f"the body did not arrive within {MAX_BODY_SECONDS:g} s") from None
        except ClientDisconnect:
            raise RequestError(400, "the connection ended before the body") from None

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise RequestError(413, f"the body is larger than the limit of {self._limit / 1e6:g} MB; send fewer or smaller images")
        if self._free < 0:
            raise RequestError(503, "too many large requests at once; try again")


class Gate:
    """The application `app` behind limits on headers, with security headers and `metrics` for every response.

    While `is_full`, predictions are refused before their bodies are read.
    """

    def __init__(self, app: ASGIApp, metrics: ServerMetrics, is_full: Callable[[], bool]) -> None:
        self._app = app
        self._metrics = metrics
        self._is_full = is_full

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it for its headers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # the server sends the headers alone
        began = time.monotonic()
        code = 500

        async def send_on(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                is_page = headers.get("content-type", "").startswith("text/html")
                headers["content-security-policy"] = PAGE_POLICY if is_page else POLICY
                headers["server-timing"] = f"total;dur={1000 * (time.monotonic() - began):.1f}"
                if code in {408, 413, 431}:
                    headers["connection"] = "close"  # the rest of the request is not read
            await send(message)

        refused, route = _header_refusal(Headers(scope=scope)), OTHER_ROUTE
        if refused is None and scope["method"] == "POST" and self._is_full():
            refused, route = await refuse_slowly(), QUEUE_ROUTE
        try:
            await (refused or self._app)(scope, receive, send_on)
        finally:
            route = getattr(scope.get("route"), "path", route)
            self._metrics.requests.labels(route, str(code)).inc()
            self._metrics.seconds.labels(route).observe(time.monotonic() - began)


def _header_refusal(headers: Headers) -> JSONResponse | None:
    size = sum(len(name) + len(value) for name, value in headers.raw)
    if len(headers.raw) <= MAX_HEADERS and size <= MAX_HEADER_BYTES:
        return None
    return refusal(431, f"the headers exceed the limit of {MAX_HEADERS} headers and {MAX_HEADER_BYTES} bytes")
