"""TLS as every section has it: the names of PEM files, and what can be made of them."""

import ssl
from pathlib import Path

from skiagraph.settings.base import Section


class TlsFiles(Section):
    """How a port is secured. Files in PEM."""

    certificate: Path
    key: Path
    client_ca: Path | None = None  # set: every client must show a certificate that this authority has signed


class TlsClient(Section):
    """How another machine is reached over TLS. Files in PEM."""

    ca: Path  # who must have signed its certificate
    certificate: Path | None = None
    key: Path | None = None


def server_context(files: TlsFiles, where: str) -> ssl.SSLContext:
    """TLS 1.2 or later; raises OSError whose text names the setting when a file cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, where, files.certificate, files.key, files.client_ca)
    if files.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(files: TlsClient, where: str) -> ssl.SSLContext:
    """TLS 1.2 or later; raises OSError whose text names the setting when a file cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, where, files.certificate, files.key, files.ca)
    return context


def not_after(certificate: Path) -> float:
    """When the first certificate of a PEM file ends, in seconds since 1970; OSError where there is none."""
    # The standard library reads a certificate without a connection only here.
    read: dict[str, str] = ssl._ssl._test_decode_cert(str(certificate))  # type: ignore[attr-defined]
    return ssl.cert_time_to_seconds(read["notAfter"])


def _load(
    context: ssl.SSLContext, where: str, certificate: Path | None, key: Path | None, authority: Path | None
) -> None:
    try:
        if certificate is not None:
            context.load_cert_chain(certificate, key)
        if authority is not None:
            context.load_verify_locations(authority)
    except OSError as error:  # SSLError is one
        raise OSError(
            f"{where}: {certificate or '-'}, {key or '-'} or {authority or '-'} cannot be used:"
            f" {error.strerror or error};"
            " give readable PEM files, and the key that belongs to the certificate"
        ) from error
