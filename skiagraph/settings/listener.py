"""Section `listener`: the DICOM node."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from skiagraph.settings.base import Section

AeTitle = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[\x21-\x5b\x5d-\x7e]([\x20-\x5b\x5d-\x7e]*[\x21-\x5b\x5d-\x7e])?$")]


class Destination(Section):
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
    ae_title: AeTitle
    host: str
    port: Annotated[int, Field(ge=1, le=65535)]


class ListenerSettings(Section):
    ae_title: AeTitle = "SKIAGRAPH"
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 11112
    console_host: str = "127.0.0.1"
    console_port: Annotated[int, Field(ge=0, le=65535)] = 8080
    folder: Path = Path("var")  # spool, ledger and workflow database live below it
    service_url: str = "http://127.0.0.1:3000"
    quiet_period_seconds: Annotated[float, Field(gt=0)] = 10.0
    max_wait_seconds: Annotated[float, Field(gt=0)] = 300.0
    destinations: tuple[Destination, ...] = ()
