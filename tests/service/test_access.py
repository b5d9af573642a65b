"""Bearer tokens: the decision."""

import hashlib
from datetime import date
from pathlib import Path

import pytest
import yaml

from service.access import authorise, is_open, known_tokens, scope_of
from service.errors import Rejected
from skiagraph.cli import run
from skiagraph.settings import SettingsError, load
from skiagraph.settings.service import Scope, ServiceSettings, Token

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
    authorise("Bearer secret", "score", tokens, TODAY, anonymous=False)
    authorise("bearer secret ", "read", tokens, TODAY, anonymous=False)


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
        authorise(header, "score", tokens, TODAY, anonymous=True)
    assert caught.value.problem.status == status
    assert "secret" not in str(caught.value.problem).replace("wrong", "")


def test_without_tokens_or_at_a_probe_nobody_is_asked() -> None:
    authorise(None, "score", [], TODAY, anonymous=True)
    authorise(None, None, [token("secret")], TODAY, anonymous=False)


@pytest.mark.parametrize(
    ("address", "allowed", "opened"),
    [
        ("127.0.0.1", False, True),
        ("::1", False, True),
        ("10.1.2.3", False, False),
        ("0.0.0.0", False, False),  # noqa: S104  compared, not bound
        ("/run/socket", False, False),
        (None, False, False),
        ("10.1.2.3", True, True),
    ],
)
def test_without_tokens_other_machines_are_refused_unless_the_settings_say_so(
    address: str | None, allowed: bool, opened: bool
) -> None:
    """Also where somebody else decides what is bound: `bentoml serve` of the Bento."""
    settings = ServiceSettings(allow_anonymous=allowed)
    assert is_open(settings, address) is opened
    if not opened:
        with pytest.raises(Rejected, match="no bearer token"):
            authorise(None, "score", [], TODAY, anonymous=False)


@pytest.mark.parametrize(
    ("host", "access", "starts"),
    [
        ("0.0.0.0", {}, False),  # noqa: S104
        ("::", {}, False),
        ("10.1.2.3", {}, False),
        ("0.0.0.0", {"allow_anonymous": True}, True),  # noqa: S104
        ("0.0.0.0", {"tokens": [{"name": "a", "sha256": "0" * 64}]}, True),  # noqa: S104
        ("0.0.0.0", {"tokens_file": "tokens.yaml"}, True),  # noqa: S104
        ("127.0.0.2", {}, True),
        ("::1", {}, True),
        ("localhost", {}, False),
        ("127.0.0.1", {"allow_anonymous": True, "tokens_file": "tokens.yaml"}, False),
    ],
)
def test_settings_that_let_everybody_in_have_to_say_so(
    tmp_path: Path, host: str, access: dict[str, object], starts: bool
) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text(yaml.safe_dump({"service": {"host": host, **access}}))
    if starts:
        assert load(config).service.host == host
        return
    with pytest.raises(SettingsError, match=r"allow_anonymous|IP address"):
        load(config)


@pytest.mark.parametrize(
    ("service", "said"),
    [
        ({"host": "0.0.0.0"}, "set service.tokens or service.tokens_file, or host: 127.0.0.1"),  # noqa: S104
        ({"tokens_file": "missing.yaml"}, "service.tokens_file: missing.yaml cannot be used: FileNotFound"),
        (
            {"tls": {"certificate": "missing.pem", "key": "missing.key"}},
            "service.tls: missing.pem, missing.key or - cannot be used: No such file",
        ),
    ],
)
def test_serve_does_not_start_and_says_what_to_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], service: dict[str, object], said: str
) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text(yaml.safe_dump({"service": service}))
    assert run(["serve", "--config", str(config)]) == 2
    assert said in capsys.readouterr().err


def test_tokens_of_the_file_are_as_good_as_those_of_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    path.write_text(f"- {{name: listener, sha256: {token('in the file').sha256}, scopes: [score]}}\n")
    tokens = known_tokens(ServiceSettings(tokens=(token("in the settings"),), tokens_file=path))
    for secret in ("in the file", "in the settings"):
        authorise(f"Bearer {secret}", "score", tokens, TODAY, anonymous=False)
    with pytest.raises(Rejected, match="has no scope read"):
        authorise("Bearer in the file", "read", tokens, TODAY, anonymous=False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot be used"),
        ("[]", "names no token"),
        ("- {name: a, sha256: my secret}", "0.sha256"),
        ("- {name: a}", "0.sha256 Field required"),
        ("my secret: [", "ParserError"),
        ("- my secret", "0 Input should be"),
        ("\xff", "UnicodeDecodeError"),
    ],
)
def test_a_tokens_file_that_is_none_is_named_and_not_quoted(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "tokens.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingsError, match=said) as caught:
        known_tokens(ServiceSettings(tokens_file=path))
    assert str(path) in str(caught.value)
    assert "secret" not in str(caught.value)
