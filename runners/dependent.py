"""What both runners are told of BentoML: how they are reached from the process of the HTTP API."""

import sys
from typing import Any

from skiagraph.settings.service import ServiceSettings


def configuration(settings: ServiceSettings) -> dict[str, Any]:
    """Arguments of `bentoml.service` that the two have in common."""
    return {
        "threads": 1,
        "traffic": {"timeout": settings.request_timeout_seconds},
        # BentoML would close its connections every 100 calls or 300 s, and break the calls that are on them.
        "runner_connection": {"max_requests": sys.maxsize, "max_age": float(sys.maxsize)},
        "logging": {"access": {"enabled": False}},
        # A span for each piece of a tensor, exported nowhere, would take a tenth of the processor time.
        "tracing": {"excluded_urls": ".*"},
    }
