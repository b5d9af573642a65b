"""The settings: one YAML file plus `SKIAGRAPH_…` environment overrides, read once, frozen, failing at start.

A leaf package: any room may import it. Nothing below the readers of `load` looks at the environment.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from skiagraph.settings.environment import misspelt
from skiagraph.settings.listener import ListenerSettings
from skiagraph.settings.report import ReportSettings
from skiagraph.settings.service import ServiceSettings

CONFIG_VARIABLE = "SKIAGRAPH_CONFIG"
_PREFIX: Final = "SKIAGRAPH_"
_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_SECRETS: Final = frozenset({"tokens", "service_token", "database_url"})


class SettingsError(Exception):
    """Settings that cannot be used; the text names key, value seen and what is expected. Exit code 2."""


def _level(name: str) -> str:
    if name.upper() not in _LEVELS:
        raise ValueError(f"give one of {', '.join(_LEVELS)}")
    return name.upper()


class Settings(BaseSettings):
    """The whole of it: SKIAGRAPH_LISTENER__PORT overrides `listener: {port: …}`."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    listener: ListenerSettings = ListenerSettings()
    service: ServiceSettings = ServiceSettings()
    report: ReportSettings = ReportSettings()
    log_level: Annotated[str, AfterValidator(_level)] = "INFO"
    log_json: bool | None = None


def load(config: Path | None = None) -> Settings:
    """Read `config` (or what SKIAGRAPH_CONFIG names, or none) and the environment; raises SettingsError."""
    chosen = config or (Path(path) if (path := os.environ.get(CONFIG_VARIABLE)) else None)
    if chosen is not None and not chosen.is_file():
        raise SettingsError(f"settings file {chosen} does not exist: name an existing file with --config")

    slips = misspelt(os.environ, Settings, _PREFIX, others=frozenset({CONFIG_VARIABLE}))
    if said := [f"environment variable {slip} is no setting: {near} is the nearest" for slip, near in slips]:
        raise SettingsError("\n".join(said))

    class FromFile(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            environment = EnvSettingsSource(settings_cls, env_ignore_empty=True)
            return (environment, YamlConfigSettingsSource(settings_cls, chosen)) if chosen else (environment,)

    try:
        return FromFile()
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None
    except Exception as error:  # a YAML syntax error: the library raises its own
        raise SettingsError(f"{chosen or 'the environment'} cannot be read: {error}") from error


def _explain(error: ValidationError) -> str:
    lines: list[str] = []
    for problem in error.errors(include_url=False):
        key = ".".join(str(part) for part in problem["loc"])
        seen: Any = problem.get("input")
        # A key that does not exist may be a misspelt secret.
        secret = problem["type"] == "extra_forbidden" or not _SECRETS.isdisjoint(problem["loc"])
        shown = "" if secret or isinstance(seen, dict | list) else f": {seen!r} was given"
        lines.append(f"setting {key}{shown}; {problem['msg']}")
    return "\n".join(lines)
