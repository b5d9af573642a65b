"""Who may ask for what: bearer tokens, kept as digests, with scopes and an end."""

import hashlib
import hmac
from collections.abc import Sequence
from datetime import date

from service.errors import Rejected
from skiagraph.settings.service import Scope, Token

_OPEN = frozenset({"/readyz"})  # probes carry no token


def scope_of(method: str, path: str) -> Scope | None:
    """What a request needs; None when nobody is asked."""
    if path in _OPEN:
        return None
    return "score" if method == "POST" else "read"


def authorise(header: str | None, needed: Scope | None, tokens: Sequence[Token], today: date) -> None:
    """Raise Rejected, 401 or 403, unless the header has a token for `needed`; no tokens, no lock."""
    if needed is None or not tokens:
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
