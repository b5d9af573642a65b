"""Bearer tokens: the decision."""

import hashlib
from datetime import date

import pytest

from service.access import authorise, scope_of
from service.errors import Rejected
from skiagraph.settings.service import Scope, Token

TODAY = date(2026, 11, 22)


def token(secret: str, **members: object) -> Token:
    return Token(name="pacs", sha256=hashlib.sha256(secret.encode()).hexdigest(), **members)


@pytest.mark.parametrize(
    ("method", "path", "needed"),
    [
        ("POST", "/v1/score", "score"),
        ("POST", "/v1/anything/new", "score"),
        ("GET", "/v1/models", "read"),
        ("DELETE", "/v1/models", "read"),
        ("GET", "/readyz", None),
    ],
)
def test_what_a_request_needs(method: str, path: str, needed: Scope | None) -> None:
    assert scope_of(method, path) == needed


def test_the_right_token_may() -> None:
    tokens = [token("other"), token("secret", expires=TODAY)]
    authorise("Bearer secret", "score", tokens, TODAY)
    authorise("bearer secret ", "read", tokens, TODAY)


@pytest.mark.parametrize(
    ("header", "tokens", "status"),
    [
        (None, [token("secret")], 401),
        ("Basic secret", [token("secret")], 401),
        ("Bearer ", [token("secret")], 401),
        ("Bearer wrong", [token("secret")], 401),
        ("Bearer " + token("secret").sha256, [token("secret")], 401),
        ("Bearer sécret", [token("secret")], 401),
        ("Bearer secret", [token("secret", expires=date(2026, 11, 21))], 401),
        ("Bearer secret", [token("secret", scopes=("read",))], 403),
        ("Bearer secret", [token("secret", scopes=())], 403),
    ],
    ids=str,
)
def test_everybody_else_may_not(header: str | None, tokens: list[Token], status: int) -> None:
    with pytest.raises(Rejected) as caught:
        authorise(header, "score", tokens, TODAY)
    assert caught.value.problem.status == status
    assert "secret" not in str(caught.value.problem).replace("wrong", "")


def test_without_tokens_or_at_a_probe_nobody_is_asked() -> None:
    authorise(None, "score", [], TODAY)
    authorise(None, None, [token("secret")], TODAY)
