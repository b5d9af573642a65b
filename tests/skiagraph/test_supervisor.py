"""`skiagraph up` under signals: stopped in order, nothing left behind, and one part's death ends both."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from skiagraph.demo.product import Product, running_product
from skiagraph.errors import UsageError
from skiagraph.settings import Settings
from skiagraph.supervisor import child_environment, service_context


@contextmanager
def up(folder: Path) -> Iterator[tuple[Product, Path]]:
    log = folder / "up.log"
    log.touch()
    with running_product(folder, listener={"reserve_bytes": 0}, log=log) as product:
        yield product, log


def family(product: Product) -> list[psutil.Process]:
    return list(psutil.Process(product.process.pid).children(recursive=True))


def child(product: Product, name: str) -> psutil.Process:
    return next(one for one in family(product) if one.cmdline()[-2:] == ["skiagraph", name])


def assert_gone(processes: list[psutil.Process], *, seconds: float) -> None:
    assert len(processes) >= 5  # service, its workers, listener
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


def test_sigterm_stops_the_listener_first_and_leaves_nothing(tmp_path: Path) -> None:
    with up(tmp_path) as (product, log):
        everyone = family(product)
        product.process.send_signal(signal.SIGTERM)
        assert product.process.wait(60) == 0
        assert_gone(everyone, seconds=5)
    lines = [line for line in log.read_text().splitlines() if '"stopped"' in line and "supervisor" in line]
    assert ["listen" in line for line in lines] == [True, False]


def test_a_killed_supervisor_leaves_no_orphan(tmp_path: Path) -> None:
    with up(tmp_path) as (product, _):
        everyone = family(product)
        product.process.kill()
        product.process.wait(5)
        assert_gone(everyone, seconds=45)


@pytest.mark.parametrize("part", ["serve", "listen"])
def test_when_one_part_dies_all_stops_and_says_so(tmp_path: Path, part: str) -> None:
    with up(tmp_path) as (product, log):
        everyone = family(product)
        child(product, part).kill()
        assert product.process.wait(60) == 1
        assert_gone(everyone, seconds=20)
    assert f"`skiagraph {part}` was killed by SIGKILL" in log.read_text()
    assert "Traceback" not in log.read_text()


def test_a_port_in_use_ends_with_a_reason(tmp_path: Path, free_port: Callable[[], int]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = tmp_path / "skiagraph.yaml"
        listener = {"port": taken.getsockname()[1], "console_port": free_port(), "reserve_bytes": 0}
        settings = {"listener": {**listener, "folder": str(tmp_path)}, "service": {"port": free_port()}}
        config.write_text(json.dumps(settings))  # every JSON text is YAML
        begin = time.monotonic()
        answer = subprocess.run(
            [sys.executable, "-m", "skiagraph", "up", "--config", config],
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
    assert answer.returncode == 1
    assert time.monotonic() - begin < 60
    assert "`skiagraph listen` ended with exit code 1" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    ("section", "key"), [("service", "port"), ("listener", "port"), ("listener", "console_port")]
)
def test_up_needs_fixed_ports(section: str, key: str) -> None:
    settings = Settings.model_validate({section: {key: 0}})
    with pytest.raises(UsageError, match=f"{section}.{key}"):
        child_environment(settings, None)


def test_the_listener_is_pointed_at_the_service_beside_it(tmp_path: Path) -> None:
    settings = Settings.model_validate({"service": {"host": "::", "port": 4321, "allow_anonymous": True}})
    environment = child_environment(settings, tmp_path / "a.yaml")
    assert environment["SKIAGRAPH_LISTENER__SERVICE_URL"] == "http://127.0.0.1:4321"
    assert environment["SKIAGRAPH_CONFIG"] == str(tmp_path / "a.yaml")


def test_over_tls_the_listener_needs_the_name_in_the_certificate() -> None:
    service = {"port": 4321, "tls": {"certificate": "site.pem", "key": "site.key"}}
    with pytest.raises(UsageError, match=r"listener\.service_url.*https://NAME:4321"):
        child_environment(Settings.model_validate({"service": service}), None)
    listener = {"service_url": "https://hand.example:4321", "service_tls": {"ca": "nowhere.pem"}}
    settings = Settings.model_validate({"service": service, "listener": listener})
    environment = child_environment(settings, None)
    assert environment["SKIAGRAPH_LISTENER__SERVICE_URL"] == "https://hand.example:4321"
    with pytest.raises(UsageError, match=r"listener\.service_tls.*nowhere\.pem"):
        service_context(settings.listener)
