"""The settings: file and environment, frozen, failing at start with key, value and what is expected."""

import re
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel, ValidationError

from skiagraph.settings import CONFIG_VARIABLE, Settings, SettingsError, load


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for key in list(os.environ):
        if key.startswith("SKIAGRAPH_") and key != "SKIAGRAPH_SHARED_DATA":
            monkeypatch.delenv(key)


def write(folder: Path, text: str) -> Path:
    path = folder / "skiagraph.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_a_file_the_defaults_hold() -> None:
    settings = load()
    assert (settings.listener.ae_title, settings.listener.port) == ("SKIAGRAPH", 11112)
    assert (settings.service.port, settings.listener.console_port) == (3000, 8080)


def test_the_file_is_read_and_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "listener: {port: 104, ae_title: FROM_FILE}\n")
    monkeypatch.setenv("SKIAGRAPH_LISTENER__PORT", "4242")
    settings = load(path)
    assert (settings.listener.port, settings.listener.ae_title) == (4242, "FROM_FILE")


def test_the_environment_may_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, str(write(tmp_path, "log_level: DEBUG\n")))
    assert load().log_level == "DEBUG"


def test_a_list_of_destinations_can_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "SKIAGRAPH_LISTENER__DESTINATIONS",
        '[{"name": "main", "ae_title": "PACS", "host": "pacs.example", "port": 104}]',
    )
    assert load().listener.destinations[0].ae_title == "PACS"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("listener: {port: 70000}", ["listener.port", "70000", "65535"]),
        ("listener: {prot: 104}", ["listener.prot", "not permitted"]),
        ("listener: {ae_title: ABCDEFGHIJKLMNOPQ}", ["listener.ae_title", "16"]),
        ("listener: {ae_title: 'BACK\\SLASH'}", ["listener.ae_title"]),
        ("service: {engine: abacus}", ["service.engine", "'abacus'", "tensorrt"]),
        ("listener: {quiet_period_seconds: 0}", ["listener.quiet_period_seconds", "greater than 0"]),
        ("listener: {destinations: [{name: a, ae_title: A, host: h}]}", ["destinations.0.port", "required"]),
        (
            "listener: {rules: [{name: hands, destinations: [pacs, archive, pacs]}], destinations: ["
            "{name: pacs, ae_title: A, host: h, port: 1}, {name: archive, ae_title: B, host: h, port: 1}]}",
            ["listener.rules.0", "rule hands names destinations more than once: pacs;"],
        ),
        ("nonsense: true", ["nonsense"]),
        ("log_level: loud", ["log_level", "'loud'", "DEBUG, INFO, WARNING, ERROR, CRITICAL"]),
        ("listener: [1, 2", ["skiagraph.yaml", "cannot be read"]),
        ("just a sentence", ["skiagraph.yaml"]),
    ],
)
def test_wrong_settings_say_what_is_wrong(tmp_path: Path, text: str, said: list[str]) -> None:
    path = write(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        load(path)
    for word in said:
        assert word in str(caught.value)


@pytest.mark.parametrize("level", ["info", "Info", "INFO"])
def test_a_log_level_may_be_written_small(monkeypatch: pytest.MonkeyPatch, level: str) -> None:
    monkeypatch.setenv("SKIAGRAPH_LOG_LEVEL", level)
    assert load().log_level == "INFO"


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("SKIAGRAPH_LISENER__PORT", "SKIAGRAPH_LISTENER__PORT"),
        ("SKIAGRAPH_LISTENER_PORT", "SKIAGRAPH_LISTENER__PORT"),
        ("SKIAGRAPH_LISTENER_RETRY_FAULTS", "SKIAGRAPH_LISTENER__RETRY__FAULTS"),
        ("SKIAGRAPH_SERVICES__TLS__KEY", "SKIAGRAPH_SERVICE__TLS__KEY"),
        ("SKIAGRAPH_SERVICE_TOKENS", "SKIAGRAPH_SERVICE__TOKENS"),
        ("SKIAGRAPH_LOGLEVEL", "SKIAGRAPH_LOG_LEVEL"),
        ("SKIAGRAPH_LOG_LEVEL__X", "SKIAGRAPH_LOG_LEVEL"),
        ("skiagraph_log_levle", "SKIAGRAPH_LOG_LEVEL"),
        ("SKIAGRAPH_CONFG", "SKIAGRAPH_CONFIG"),
    ],
)
def test_a_misspelt_variable_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, meant: str) -> None:
    monkeypatch.setenv(variable, "104")
    with pytest.raises(SettingsError) as caught:
        load()
    assert f"{variable} is no setting: {meant} is" in str(caught.value)


def test_a_misspelt_variable_below_a_section_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKIAGRAPH_LISTENER__PROT", "104")
    with pytest.raises(SettingsError, match=r"setting listener\.prot; .* not permitted"):
        load()


def test_variables_of_others_are_let_be(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = "tcp://10.0.0.1:3000"
    for name in (
        "",
        "LISTENER_",
        "SERVICE_",
    ):  # of the Services skiagraph, skiagraph-listener, skiagraph-service
        monkeypatch.setenv(f"SKIAGRAPH_{name}SERVICE_HOST", "10.0.0.1")
        monkeypatch.setenv(f"SKIAGRAPH_{name}SERVICE_PORT", "3000")
        monkeypatch.setenv(f"SKIAGRAPH_{name}SERVICE_PORT_DICOM", "3000")
        monkeypatch.setenv(f"SKIAGRAPH_{name}PORT", address)
        monkeypatch.setenv(f"SKIAGRAPH_{name}PORT_3000_TCP", address)
        monkeypatch.setenv(f"SKIAGRAPH_{name}PORT_3000_TCP_ADDR", "10.0.0.1")
    root = request.config.rootpath
    for path in (root / "Makefile", *(root / "tests" / "chaos").glob("*.py"), root / "tests" / "conftest.py"):
        for name in re.findall(r"\bSKIAGRAPH_[A-Z]+_[A-Z]+\b", path.read_text(encoding="utf-8")):
            monkeypatch.setenv(name, "6")
    monkeypatch.setenv("SKIAGRAPH_LISENER__PORT", "")
    assert load().listener.port == 11112


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("service: {tokens: [{name: a, sha256: MySecretToken123}]}", "service.tokens.0.sha256"),
        ("service: {tokens: [{name: a, token: MySecretToken123}]}", "service.tokens.0.token"),
        ("service: {tokens: [MySecretToken123]}", "service.tokens.0"),
        ("service: {tokens: MySecretToken123}", "service.tokens"),
        ("listener: {service_token: [MySecretToken123]}", "listener.service_token"),
        ("listener: {service_token: 20260123}", "listener.service_token"),
        ("listener: {database_url: 20260123}", "listener.database_url"),
        ("listener: {service_tokn: MySecretToken123}", "listener.service_tokn"),
    ],
)
def test_a_secret_is_not_repeated(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(write(tmp_path, text))
    assert f"setting {key}; " in str(caught.value)
    assert "123" not in str(caught.value)


def test_every_wrong_key_is_named_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, "listener: {port: -1, console_port: -1}\nservice: {port: -1}\n")
    with pytest.raises(SettingsError) as caught:
        load(path)
    assert len(str(caught.value).splitlines()) == 3


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.yaml does not exist"):
        load(tmp_path / "nowhere.yaml")


def test_settings_are_frozen() -> None:
    settings = Settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.log_level = "DEBUG"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        settings.listener.port = 1  # type: ignore[misc]


def keys(model: type[BaseModel]) -> set[str]:
    """Every key of the settings, without the sections it lies in."""
    found: set[str] = set()
    for name, field in model.model_fields.items():
        below = [one for one in (field.annotation, *get_args(field.annotation)) if isinstance(one, type)]
        sections = [one for one in below if issubclass(one, BaseModel)]
        found |= set().union(*(keys(one) for one in sections)) if sections else {name}
    return found


def test_every_setting_is_documented(request: pytest.FixtureRequest) -> None:
    page = (request.config.rootpath / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert len(keys(Settings)) > 40
    assert not {key for key in keys(Settings) if f"`{key}`" not in page and f".{key}`" not in page}


def test_the_documented_example_is_valid(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    for page in ("README.md", "docs/configuration.md"):
        text = (request.config.rootpath / page).read_text(encoding="utf-8")
        example = re.search(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
        assert example is not None
        settings = load(write(tmp_path, example[1]))
        assert settings.listener.destinations[0].host == "pacs.example"
