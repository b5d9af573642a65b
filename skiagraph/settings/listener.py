"""Section `listener`: the DICOM node."""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator

from skiagraph.settings.base import Seconds, Section
from skiagraph.settings.rules import SHIPPED_RULES, Rule, ShippedRules
from skiagraph.settings.tls import TlsClient, TlsFiles

AeTitle = Annotated[
    str,
    Field(
        min_length=1,
        max_length=16,
        pattern=r"^[\x21-\x5b\x5d-\x7e]([\x20-\x5b\x5d-\x7e]*[\x21-\x5b\x5d-\x7e])?$",
    ),
]
Port = Annotated[int, Field(ge=1, le=65535)]
PortOrAny = Annotated[int, Field(ge=0, le=65535)]
UidText = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)*$", max_length=64)]

MEBIBYTE = 1024 * 1024


class TlsServer(TlsFiles):
    """A second port, for associations over TLS (PS3.15 B.9)."""

    port: PortOrAny = 2762


class Destination(Section):
    """A PACS that gets the results."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
    ae_title: AeTitle
    host: str
    port: Port
    tls: TlsClient | None = None
    storage_commitment: bool = False  # a result is delivered once the destination has committed to it


class Peer(Section):
    """Who may send; no host means from any address."""

    ae_title: AeTitle
    host: str | None = None
    port: Port | None = None  # where it takes Storage Commitment reports that we owe it
    tls: TlsClient | None = None  # of that port


class RetrySettings(Section):
    """How long and how often a study is scored, and a result is sent, again."""

    first_seconds: Seconds = 5.0
    longest_seconds: Seconds = 600.0
    give_up_after_hours: Seconds = 72.0
    faults: Annotated[int, Field(ge=1)] = 3  # answers that say "a bug": dead letter after so many


class ListenerSettings(Section):
    ae_title: AeTitle = "SKIAGRAPH"
    other_ae_titles: tuple[AeTitle, ...] = ()  # answered as well; rules tell them apart by CalledAETitle
    host: str = "127.0.0.1"
    port: PortOrAny = 11112
    tls: TlsServer | None = None
    console_host: str = "127.0.0.1"
    console_port: PortOrAny = 8080
    folder: Path = Path("var")  # spool, ledger and workflow database live below it
    database_url: SecretStr | None = None  # postgresql://…; none means SQLite in the folder
    service_url: str = "http://127.0.0.1:3000"
    service_tls: TlsClient | None = None  # for https://; none: the public authorities are trusted
    service_token: SecretStr | None = None
    service_timeout_seconds: Seconds = 120.0
    scoring_concurrency: Annotated[int, Field(ge=1, le=64)] = 2
    quiet_period_seconds: Seconds = 10.0
    max_wait_seconds: Seconds = 300.0
    destinations: tuple[Destination, ...] = ()
    rules: tuple[Rule, ...] = ()
    shipped_rules: tuple[ShippedRules, ...] = ()  # tried after them
    retry: RetrySettings = RetrySettings()
    # Reception. No peers: everybody may send.
    peers: tuple[Peer, ...] = ()
    other_sop_classes: tuple[UidText, ...] = ()  # accepted and kept besides CR, DX and Secondary Capture
    max_associations: Annotated[int, Field(ge=1, le=1000)] = 25
    max_pdu_bytes: Annotated[int, Field(ge=4096, le=MEBIBYTE)] = 131072
    max_instance_bytes: Annotated[int, Field(gt=0)] = 2048 * MEBIBYTE
    reserve_bytes: Annotated[int, Field(ge=0)] = 1024 * MEBIBYTE  # free space below which nothing is accepted
    network_timeout_seconds: Seconds = 60.0
    peer_check_seconds: Seconds = 10.0  # how often each destination gets a C-ECHO
    drain_seconds: Seconds = 20.0  # how long a stop waits for what is under way
    # Of what nobody waits for any more; nothing else is ever removed.
    retention_days: Annotated[float, Field(ge=0)] = 30.0
    retention_bytes: Annotated[int, Field(ge=0)] | None = None  # what the spool may hold before the oldest go

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        names = [destination.name for destination in self.destinations]
        if len(set(names)) != len(names):
            raise ValueError(f"destinations share a name: {', '.join(sorted(names))}; each needs its own")
        for rule in self.rules:
            unknown = sorted(set(rule.destinations or ()) - set(names))
            if unknown:
                raise ValueError(
                    f"rule {rule.name} names destinations that are not configured: {', '.join(unknown)};"
                    f" known are {', '.join(names) or 'none'}"
                )
        senders = {peer.ae_title for peer in self.peers}
        for destination in self.destinations:
            if destination.storage_commitment and senders and destination.ae_title not in senders:
                raise ValueError(
                    f"destination {destination.name} is to report its storage commitment, but peers does not"
                    f" let its AE title {destination.ae_title} in: add it there"
                )
        if self.max_wait_seconds < self.quiet_period_seconds:
            raise ValueError("max_wait_seconds is shorter than quiet_period_seconds: make it longer")
        return self

    @cached_property
    def rules_in_order(self) -> tuple[Rule, ...]:
        """The site's own and then the shipped ones: the first that takes a study decides."""
        return (*self.rules, *(rule for name in self.shipped_rules for rule in SHIPPED_RULES[name]))
