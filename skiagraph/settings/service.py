"""Section `service`: the HTTP service, its runners and the model."""

from datetime import date
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from skiagraph.settings.base import Section
from skiagraph.settings.tls import TlsFiles

Scope = Literal["score", "read"]


class Token(Section):
    """A bearer token by its digest: printf %s "$TOKEN" | sha256sum."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    scopes: tuple[Scope, ...] = ("score", "read")
    expires: date | None = None  # the last day it is good for, UTC


def _address(host: str) -> str:
    try:
        return str(ip_address(host))
    except ValueError:
        raise ValueError("give an IP address of this machine, or 0.0.0.0 for all of them") from None


class ServiceSettings(Section):
    host: Annotated[str, AfterValidator(_address)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 3000
    tls: TlsFiles | None = None  # HTTPS, and nothing but HTTPS
    tokens: tuple[Token, ...] = ()
    tokens_file: Path | None = None  # a YAML list of further tokens, read at start
    allow_anonymous: bool = False  # without a token, also from other machines
    model: str = "synthetic-defects"  # name of a package in models/packages, or a folder
    also_models: tuple[str, ...] = ()  # further packages, chosen per request
    engine: Literal["auto", "tensorrt", "cpu"] = "auto"
    preprocess_workers: Annotated[int, Field(ge=1, le=64)] = 2
    engine_threads: Annotated[int, Field(ge=1, le=64)] = 2
    # A JPEG 2000 radiograph with a longer side is decoded at a half, a quarter … of its size; 0: never.
    decode_long_side_px: Annotated[int, Field(ge=0)] = 1600
    max_batch_size: Annotated[int, Field(ge=1, le=64)] = 8
    max_requests: Annotated[int, Field(ge=1)] = 64  # at once; more are answered 429
    max_instances: Annotated[int, Field(ge=1)] = 200  # in one study
    request_timeout_seconds: Annotated[float, Field(gt=0)] = 60.0
    drain_seconds: Annotated[float, Field(gt=0)] = 20.0  # how long a stop waits for requests under way
    max_body_bytes: Annotated[int, Field(gt=0)] = 512 * 1024 * 1024
    max_pixels: Annotated[int, Field(gt=0)] = 60_000_000
    plan_cache: Path | None = None

    @model_validator(mode="after")
    def _somebody_is_asked(self) -> Self:
        locked = bool(self.tokens) or self.tokens_file is not None
        if locked and self.allow_anonymous:
            raise ValueError("allow_anonymous is true beside tokens: remove one of them")
        if not (locked or self.allow_anonymous or ip_address(self.host).is_loopback):
            raise ValueError(
                f"host {self.host} is reached from other machines, and nobody is asked for a token: set"
                " service.tokens or service.tokens_file, or host: 127.0.0.1, or, where whoever reaches the"
                " port may ask, allow_anonymous: true"
            )
        return self
