"""What the handlers of both APIs share."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from .engine import Engine
from .limits import Budget
from .metrics import Metrics
from .settings import Settings


@dataclass(frozen=True)
class Service:
    """What the handlers of both APIs share: settings, engine, metrics, and the bytes of uploads."""

    settings: Settings
    engine: Engine
    metrics: Metrics
    budget: Budget

    @classmethod
    def of(cls, settings: Settings) -> Service:
        """A service whose model is not loaded yet."""
        metrics = Metrics()
        budget = Budget(settings.max_memory)
        metrics.upload_bytes.set_function(lambda: budget.held)
        return cls(settings, Engine(settings, metrics), metrics, budget)

    def note(self, request: Request, names: list[str]) -> None:
        """Note the pictures of a request for the access log."""
        request.state.images = len(names)
        request.state.names = names
