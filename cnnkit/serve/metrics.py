"""Metrics of a server in the text format of Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
SIZES = (1, 2, 4, 8, 16, 32, 64)
OTHER_ROUTE = "other"  # of requests for an unknown address, whose number has no limit


class ServerMetrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.requests = Counter("cnnkit_requests", "Responses by route and status code.", ("route", "code"), registry=self._registry)
        self.seconds = Histogram(
            "cnnkit_request_seconds",
            "Seconds from the headers of a request to its response.",
            ("route",),
            buckets=SECONDS,
            registry=self._registry,
        )
        self.images = Counter("cnnkit_images", "Images by outcome: predicted, abstained or error.", ("outcome",), registry=self._registry)
        self.queue_length = Gauge("cnnkit_queue_length", "Requests that wait for the network.", registry=self._registry)
        self.batch_size = Histogram("cnnkit_batch_size", "Images in a run of the network.", buckets=SIZES, registry=self._registry)

    def text(self) -> bytes:
        """Return all metrics as text."""
        return generate_latest(self._registry)
