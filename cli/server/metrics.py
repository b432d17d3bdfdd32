"""Counts and times, in Prometheus' format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_VIEWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The metrics of one server. It is the watcher of its engine."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "aidetect_requests", "Requests answered.", ["route", "method", "status"], registry=self.registry
        )
        self.request_seconds = Histogram(
            *("aidetect_request_seconds", "Seconds from a request's headers to the end of its reply."),
            labelnames=["route"],
            registry=self.registry,
            buckets=_SECONDS,
        )
        self.images = Counter(
            "aidetect_images",
            "Images, by verdict; error for those not read.",
            ["verdict"],
            registry=self.registry,
        )
        self.cached = Counter(
            "aidetect_cached_images", "Images whose score came from the result cache.", registry=self.registry
        )
        self.errors = Counter(
            "aidetect_errors",
            "Refused requests and unreadable images, by type.",
            ["type"],
            registry=self.registry,
        )
        self.queue_seconds = Histogram(
            *("aidetect_queue_seconds", "Seconds that an image waited before it was decoded."),
            registry=self.registry,
            buckets=_SECONDS,
        )
        self.tower_seconds = Histogram(
            *("aidetect_tower_seconds", "Seconds of a batch in the image tower."),
            registry=self.registry,
            buckets=_SECONDS,
        )
        self.batch_views = Histogram(
            "aidetect_batch_views", "Views in a batch.", registry=self.registry, buckets=_VIEWS
        )
        self.waiting = Gauge("aidetect_waiting_images", "Images not yet answered.", registry=self.registry)
        self.upload_bytes = Gauge("aidetect_upload_bytes", "Bytes of uploads held.", registry=self.registry)
        self.ready = Gauge("aidetect_ready", "1 when the model is loaded and tested.", registry=self.registry)

    def waited(self, seconds: float) -> None:
        """An image waited so long before it was decoded."""
        self.queue_seconds.observe(seconds)

    def computed(self, views: int, seconds: float) -> None:
        """A batch was computed."""
        self.tower_seconds.observe(seconds)
        self.batch_views.observe(views)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)
