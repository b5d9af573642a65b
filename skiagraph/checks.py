"""What `skiagraph check` looks at: each check is a function of the settings that yields findings."""

import os
import shutil
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import httpx

from models import package
from models.package import ModelPackage, PackageError
from service.access import authorise, known_tokens
from service.errors import Rejected
from skiagraph.errors import UsageError
from skiagraph.settings import Settings, SettingsError
from skiagraph.settings.listener import Destination, ListenerSettings
from skiagraph.settings.service import ServiceSettings
from skiagraph.settings.tls import TlsFiles, server_context
from skiagraph.supervisor import service_context, service_url

_VERIFICATION: Final = "1.2.840.10008.1.1"
_PATIENCE_SECONDS: Final = 5.0


class Outcome(StrEnum):
    OK = "ok"
    NOTE = "note"
    FAILED = "FAILED"


@dataclass(frozen=True, kw_only=True)
class Finding:
    what: str
    outcome: Outcome
    detail: str


def run_checks(settings: Settings) -> Iterator[Finding]:
    """Every check in the order a newcomer would ask."""
    yield Finding(what="settings", outcome=Outcome.OK, detail="valid")
    for name in (settings.service.model, *settings.service.also_models):
        yield (model := check_model(name))
        if model.outcome is Outcome.OK:
            yield check_engine(name, settings.service)
    yield from check_rules(settings)
    yield check_folder(settings.listener)
    if settings.listener.tls is not None:
        yield check_tls(settings.listener.tls, "listener.tls")
    if settings.service.tls is not None:
        yield check_tls(settings.service.tls, "service.tls")
    if settings.service.tokens or settings.service.tokens_file:
        yield check_token(settings)
    yield from check_parts(settings)
    if not settings.listener.destinations:
        yield Finding(
            what="destinations",
            outcome=Outcome.NOTE,
            detail="none: results stay here; name a PACS under listener.destinations",
        )
    for destination in settings.listener.destinations:
        yield check_destination(settings.listener, destination)


def check_model(name: str) -> Finding:
    what = f"model {name}"
    try:
        manifest = ModelPackage.open(package.find(name)).manifest
    except PackageError as error:
        return Finding(what=what, outcome=Outcome.FAILED, detail=str(error))
    return Finding(
        what=what, outcome=Outcome.OK, detail=f"version {manifest.version}, every file as its sha256 says"
    )


def check_engine(name: str, service: ServiceSettings) -> Finding:
    """Which engine would run the model here, why that one, how exactly and how fast: tried, not guessed."""
    from runners.errors import RunnerError
    from runners.loaded import LoadedModel

    what = f"engine of {name}"
    try:
        with LoadedModel(ModelPackage.open(package.find(name)), service) as model:
            report, allowed = model.report, model.package.manifest.golden.tolerance
    except RunnerError as error:
        return Finding(what=what, outcome=Outcome.FAILED, detail=str(error))
    precision = {"fp32": "single", "fp16": "half"}.get(report.precision, report.precision)
    return Finding(
        what=what,
        outcome=Outcome.NOTE if report.fallback else Outcome.OK,
        detail=f"{report.engine} {report.engine_version} in {precision} precision, because {report.reason};"
        f" differs from the golden outputs by {report.parity:.1g}, {allowed:g} is allowed;"
        f" {1000 * report.seconds_per_radiograph:.0f} ms per radiograph",
    )


def check_rules(settings: Settings) -> Iterator[Finding]:
    """A finding for each rule that asks for a model which the service does not load."""
    loaded = set()
    for name in (settings.service.model, *settings.service.also_models):
        with suppress(PackageError):  # has a finding of its own
            loaded.add(ModelPackage.open(package.find(name)).manifest.name)
    for rule in settings.listener.rules:
        if rule.model is not None and rule.model not in loaded:
            yield Finding(
                what=f"rule {rule.name}",
                outcome=Outcome.FAILED,
                detail=f"the service does not load {rule.model}, and would refuse its studies:"
                " add it to service.also_models",
            )


def check_folder(listener: ListenerSettings) -> Finding:
    """The spool's folder, or where it would be made, is writable and has room above the reserve."""
    folder = listener.folder.resolve()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    what = f"folder {listener.folder}"
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return Finding(
            what=what,
            outcome=Outcome.FAILED,
            detail=f"{existing} is not writable; set listener.folder elsewhere",
        )
    free, reserve = shutil.disk_usage(existing).free, listener.reserve_bytes
    if free < reserve:
        return Finding(
            what=what,
            outcome=Outcome.FAILED,
            detail=f"{free:,} bytes free, listener.reserve_bytes is {reserve:,}: nothing would be accepted",
        )
    return Finding(what=what, outcome=Outcome.OK, detail=f"writable, {free / 1e9:.0f} GB free")


def check_parts(settings: Settings) -> Iterator[Finding]:
    """The service and the DICOM node: running and ready, or their ports free for them."""
    listener, service = settings.listener, settings.service
    away = "service_url" in listener.model_fields_set
    try:
        # Not named: `skiagraph up` points the node at the service beside it.
        url = listener.service_url if away else service_url(settings)
        tls = service_context(listener)
    except UsageError as error:
        yield Finding(what="HTTP service", outcome=Outcome.FAILED, detail=str(error))
    else:
        yield _check_http("HTTP service", url, None if away else (service.host, service.port), tls)
    yield _check_http(
        "console",
        f"http://{listener.console_host}:{listener.console_port}",
        (listener.console_host, listener.console_port),
    )
    yield _check_dicom_port(listener)


def check_tls(files: TlsFiles, where: str) -> Finding:
    """Certificate, key and authority of a TLS port of ours can be used together."""
    try:
        server_context(files, where)
    except OSError as error:
        return Finding(what="TLS", outcome=Outcome.FAILED, detail=str(error))
    return Finding(what="TLS", outcome=Outcome.OK, detail=f"{files.certificate} and its key can be used")


def check_token(settings: Settings) -> Finding:
    """The token that the node shows is one that the service lets score."""
    token = settings.listener.service_token
    try:
        authorise(
            f"Bearer {token.get_secret_value()}" if token else None,
            "score",
            known_tokens(settings.service),
            datetime.now(UTC).date(),
            anonymous=False,
        )
    except SettingsError as error:
        return Finding(what="token", outcome=Outcome.FAILED, detail=str(error))
    except Rejected as error:
        return Finding(
            what="token",
            outcome=Outcome.FAILED,
            detail=f"listener.service_token, as the service would answer it: {error.problem.detail}",
        )
    return Finding(what="token", outcome=Outcome.OK, detail="listener.service_token may score")


def check_destination(listener: ListenerSettings, destination: Destination) -> Finding:
    """A real C-ECHO, under the AE title and over the TLS that will deliver."""
    from dicom_listener.delivery import echo
    from dicom_listener.errors import StartupError

    what = f"destination {destination.name}"
    address = f"{destination.ae_title} at {destination.host}:{destination.port}"
    # A wrong host must not keep the asking person waiting as long as a delivery would.
    hasty = listener.model_copy(update={"network_timeout_seconds": _PATIENCE_SECONDS})
    try:
        answers = echo(hasty, destination)
    except StartupError as error:
        return Finding(what=what, outcome=Outcome.FAILED, detail=str(error))
    if answers:
        return Finding(what=what, outcome=Outcome.OK, detail=f"{address} answers C-ECHO")
    return Finding(
        what=what,
        outcome=Outcome.FAILED,
        detail=f"{address} does not answer C-ECHO: check host, port, TLS, and both AE titles",
    )


def _check_http(
    what: str, url: str, bind: tuple[str, int] | None, tls: ssl.SSLContext | None = None
) -> Finding:
    try:
        status = httpx.get(f"{url}/readyz", timeout=7, verify=tls or True).status_code
    except httpx.HTTPError as error:
        if bind is None:
            return Finding(what=what, outcome=Outcome.FAILED, detail=f"{url} does not answer: {error}")
        return _port_free(what, *bind)
    if status == 200:
        return Finding(what=what, outcome=Outcome.OK, detail=f"{url} is ready")
    return Finding(what=what, outcome=Outcome.FAILED, detail=f"{url}/readyz answers {status}, expected 200")


def _check_dicom_port(listener: ListenerSettings) -> Finding:
    finding = _port_free("DICOM node", listener.host, listener.port)
    if finding.outcome is not Outcome.FAILED:
        return finding
    if not _echo(listener):
        return Finding(
            what="DICOM node",
            outcome=Outcome.FAILED,
            detail=f"{finding.detail}, and what listens there is not ours",
        )
    return Finding(
        what="DICOM node",
        outcome=Outcome.OK,
        detail=f"{listener.ae_title} answers C-ECHO on port {listener.port}",
    )


def _port_free(what: str, host: str, port: int) -> Finding:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        return Finding(
            what=what,
            outcome=Outcome.FAILED,
            detail=f"{host}:{port} cannot be listened on: {error.strerror or error}",
        )
    return Finding(what=what, outcome=Outcome.NOTE, detail=f"not running; {host}:{port} is free for it")


def _echo(listener: ListenerSettings) -> bool:
    """Whether our own node answers C-ECHO (PS3.7 9.1.5)."""
    from pynetdicom import AE

    entity = AE(ae_title=listener.ae_title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _PATIENCE_SECONDS
    entity.connection_timeout = _PATIENCE_SECONDS
    entity.add_requested_context(_VERIFICATION)
    association = entity.associate(listener.host, listener.port, ae_title=listener.ae_title)
    if not association.is_established:
        return False
    try:
        return getattr(association.send_c_echo(), "Status", None) == 0x0000
    finally:
        association.release()
