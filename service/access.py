"""Who may ask for what: bearer tokens, kept as digests, with scopes and an end."""

import hashlib
import hmac
from collections.abc import Sequence
from datetime import date
from ipaddress import ip_address

import yaml
from pydantic import TypeAdapter, ValidationError

from service.errors import Rejected
from skiagraph.settings import SettingsError
from skiagraph.settings.service import Scope, ServiceSettings, Token

_TOKENS = TypeAdapter(tuple[Token, ...])
OPEN_PATHS = frozenset({"/livez", "/readyz", "/metrics"})  # probes and scrapes carry no token


def scope_of(method: str, path: str) -> Scope | None:
    """What a request needs; None when nobody is asked."""
    if path in OPEN_PATHS:
        return None
    return "score" if method == "POST" else "read"


def known_tokens(settings: ServiceSettings) -> tuple[Token, ...]:
    """The tokens of settings and file; raises SettingsError where the file holds none that can be used."""
    path = settings.tokens_file
    if path is None:
        return settings.tokens
    try:
        in_file = _TOKENS.validate_python(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        # What a library says may quote the file: only the place and the kind are told.
        why = f"{'.'.join(map(str, first['loc']))} {first['msg']}" if first else type(error).__name__
        raise SettingsError(
            f"setting service.tokens_file: {path} cannot be used: {why}; expected is a YAML list of"
            " {name, sha256, scopes, expires}"
        ) from None
    if not in_file:
        raise SettingsError(f"setting service.tokens_file: {path} names no token")
    return settings.tokens + in_file


def is_open(settings: ServiceSettings, address: str | None) -> bool:
    """Whether a request that came in at this address of ours needs no token, where there are no tokens."""
    if settings.allow_anonymous:
        return True
    try:
        return address is not None and ip_address(address).is_loopback
    except ValueError:
        return False


def authorise(
    header: str | None, needed: Scope | None, tokens: Sequence[Token], today: date, *, anonymous: bool
) -> None:
    """Raise Rejected, 401 or 403, unless the header has a token for `needed`.

    anonymous: whether anybody may ask where there are no tokens at all.
    """
    if needed is None or (anonymous and not tokens):
        return
    kind, _, secret = (header or "").partition(" ")
    if kind.lower() != "bearer" or not secret:
        raise _unauthorised("there is no bearer token in the request")
    digest = hashlib.sha256(secret.strip().encode()).hexdigest()
    # Every token is compared, each in constant time: the answer's delay says nothing.
    known = [token for token in tokens if hmac.compare_digest(token.sha256, digest)]
    if not known or (known[0].expires is not None and known[0].expires < today):
        raise _unauthorised("the bearer token is not known or has expired")
    if needed not in known[0].scopes:
        raise Rejected(
            403,
            "forbidden",
            f"the token {known[0].name} has no scope {needed}",
            field="Authorization",
            fix=f"add {needed} to the scopes of service.tokens",
        )


def _unauthorised(detail: str) -> Rejected:
    return Rejected(
        401,
        "unauthorised",
        detail,
        field="Authorization",
        fix="send Authorization: Bearer <token> with a token of service.tokens",
        headers={"WWW-Authenticate": "Bearer"},
    )
