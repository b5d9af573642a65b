"""`skiagraph up` as a user would start it, on free ports, with its data in a folder of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from skiagraph.demo.ports import free_ports
from skiagraph.errors import FailedError
from skiagraph.processes import die_with_parent, stop
from skiagraph.settings import Settings

_READY_SECONDS: Final = 120.0
_STOP_SECONDS: Final = 60.0


@dataclass(frozen=True, kw_only=True)
class Product:
    """A running `skiagraph up`."""

    settings: Settings
    config: Path
    process: subprocess.Popen[bytes]


@contextmanager
def running_product(
    work: Path,
    *,
    listener: Mapping[str, Any],
    log: Path,
    waiting: Callable[[float], None] = lambda _seconds: None,
    **sections: Mapping[str, Any],
) -> Iterator[Product]:
    """Start the product with these settings, wait until it is ready, stop it at the end.

    listener, sections: settings that differ from the defaults; ports are free ones unless given.
    waiting: called with the seconds so far.
    """
    work.mkdir(parents=True, exist_ok=True)
    dicom_port, console_port, api_port = free_ports(3)
    values: dict[str, Any] = {
        "listener": {
            "port": dicom_port,
            "console_port": console_port,
            "folder": str(work / "var"),
            **listener,
        },
        **sections,
    }
    values["service"] = {"port": api_port, **values.get("service", {})}
    config = work / "skiagraph.yaml"
    config.write_text(yaml.safe_dump(values, sort_keys=False))
    # Nothing of this shell's own SKIAGRAPH_… may change what is demonstrated.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SKIAGRAPH_")}
    with log.open("ab") as lines:
        process = subprocess.Popen(
            [sys.executable, "-m", "skiagraph", "up", "--config", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=lines,
            stderr=lines,
            env=environment,
            start_new_session=True,
            preexec_fn=die_with_parent(),
        )
    settings = Settings.model_validate(values)
    try:
        _wait_until_ready(settings, process, log, waiting)
        yield Product(settings=settings, config=config, process=process)
    finally:
        stop(process, deadline_seconds=_STOP_SECONDS)


def _wait_until_ready(
    settings: Settings, process: subprocess.Popen[bytes], log: Path, waiting: Callable[[float], None]
) -> None:
    url = f"http://127.0.0.1:{settings.listener.console_port}/readyz"
    begin = time.monotonic()
    while True:
        try:
            if httpx.get(url, timeout=6).status_code == 200:
                return
        except httpx.HTTPError:
            pass  # not there yet
        seconds = time.monotonic() - begin
        if process.poll() is not None or seconds > _READY_SECONDS:
            raise FailedError(f"the product did not start; the end of {log} says why")
        waiting(seconds)
        time.sleep(0.1)
