"""The settings: one YAML file plus `SKIAGRAPH_…` environment overrides, read once, frozen, failing at start.

A leaf package: any room may import it. Nothing below the readers of `load` looks at the environment.
"""

import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from skiagraph.settings.listener import ListenerSettings
from skiagraph.settings.report import ReportSettings
from skiagraph.settings.service import ServiceSettings

CONFIG_VARIABLE = "SKIAGRAPH_CONFIG"


class SettingsError(Exception):
    """Settings that cannot be used; the text names key, value seen and what is expected. Exit code 2."""


class Settings(BaseSettings):
    """The whole of it: SKIAGRAPH_LISTENER__PORT overrides `listener: {port: …}`."""

    model_config = SettingsConfigDict(
        env_prefix="SKIAGRAPH_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    listener: ListenerSettings = ListenerSettings()
    service: ServiceSettings = ServiceSettings()
    report: ReportSettings = ReportSettings()
    log_level: str = "INFO"
    log_json: bool | None = None


def load(config: Path | None = None) -> Settings:
    """Read `config` (or what SKIAGRAPH_CONFIG names, or none) and the environment; raises SettingsError."""
    chosen = config or (Path(path) if (path := os.environ.get(CONFIG_VARIABLE)) else None)
    if chosen is not None and not chosen.is_file():
        raise SettingsError(f"settings file {chosen} does not exist: name an existing file with --config")

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
        raise SettingsError(f"{chosen} cannot be read: {error}") from error


def _explain(error: ValidationError) -> str:
    lines: list[str] = []
    for problem in error.errors(include_url=False):
        key = ".".join(str(part) for part in problem["loc"])
        seen: Any = problem.get("input")
        shown = "" if isinstance(seen, dict | list) else f": {seen!r} was given"
        lines.append(f"setting {key}{shown}; {problem['msg']}")
    return "\n".join(lines)
