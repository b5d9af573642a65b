"""Write the product's own settings schema into the chart: `python -m tests.helm.settings_schema`.

`settings` in values.schema.json is what `skiagraph.settings` accepts, less what the chart decides, so that
`helm install` refuses by its name a key that the product does not know.
"""

import json
from typing import Any

from skiagraph.settings import Settings
from tests.conftest import REPOSITORY

SCHEMA = REPOSITORY / "helm" / "skiagraph" / "values.schema.json"

# Set by the chart (templates/_helpers.tpl), or a secret that comes from an existing Secret.
DECIDED_BY_THE_CHART = {
    "Settings": {"log_json"},
    "ListenerSettings": {
        "host", "port", "console_host", "console_port", "folder", "service_url",
        "service_tls", "database_url", "service_token",
    },
    "TlsServer": {"port"},
    "ServiceSettings": {"host", "port", "plan_cache", "tls", "tokens_file"},
}  # fmt: skip


def settings_schema() -> tuple[dict[str, Any], dict[str, Any]]:
    """The schema of `settings` and the definitions it refers to."""
    whole = _without_titles(Settings.model_json_schema())
    definitions = whole.pop("$defs")
    for name, decided in DECIDED_BY_THE_CHART.items():
        section = whole if name == "Settings" else definitions[name]
        for key in decided:
            del section["properties"][key]
    return whole, definitions


def chart_schema(current: dict[str, Any]) -> dict[str, Any]:
    """The chart's schema with the settings of this checkout in it."""
    settings, definitions = settings_schema()
    return {**current, "properties": {**current["properties"], "settings": settings}, "$defs": definitions}


def _without_titles(node: Any) -> Any:
    """pydantic's titles repeat the keys."""
    if isinstance(node, dict):
        return {key: _without_titles(value) for key, value in node.items() if not _is_title(key, value)}
    return [_without_titles(item) for item in node] if isinstance(node, list) else node


def _is_title(key: str, value: Any) -> bool:
    return key == "title" and isinstance(value, str)


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(chart_schema(json.loads(SCHEMA.read_text())), indent=2) + "\n")
