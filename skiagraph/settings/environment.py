"""`SKIAGRAPH_…` variables that look like settings and are none: without a word they would have no effect."""

import re
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from types import UnionType
from typing import Final, Union, get_args, get_origin

from pydantic import BaseModel

# Kubernetes gives every container host and port of each Service, also of one named skiagraph or skiagraph-….
_SERVICE_LINK: Final = re.compile(r"(^|_)SERVICE_(HOST|PORT(_\w+)?)$|(^|_)PORT_\d+_(TCP|UDP|SCTP)(_\w+)?$")
_SERVICE_ADDRESS: Final = re.compile(r"(tcp|udp|sctp)://")
_ALIKE: Final = 0.86  # LOGLEVEL, LISTENER_PORT and LOG_LEVLE are; names that other programs would use are not


def misspelt(
    environment: Mapping[str, str], settings: type[BaseModel], prefix: str, *, others: frozenset[str]
) -> Iterator[tuple[str, str]]:
    """Each such variable and the one that it is most like; others: what is read besides the settings.

    A wrong key below a section that exists is left to the validation, which names it.
    """
    known = {prefix + key for key in _keys(settings)} | others
    sections = {name.upper() for name, field in settings.model_fields.items() if _sections(field.annotation)}
    for variable, value in environment.items():
        name = variable.upper()
        if not value or not name.startswith(prefix) or name in known:
            continue
        inner = name.removeprefix(prefix)
        section, nested, _ = inner.partition("__")
        if section in sections and (nested or section == inner):
            continue
        if _SERVICE_LINK.search(inner) or _SERVICE_ADDRESS.match(value):
            continue
        alike, nearest = max((_likeness(inner, key.removeprefix(prefix)), key) for key in known)
        if nested or alike >= _ALIKE:
            yield variable, nearest


def _likeness(name: str, key: str) -> float:
    return SequenceMatcher(None, name.replace("_", ""), key.replace("_", "")).ratio()


def _keys(settings: type[BaseModel]) -> Iterator[str]:
    """LOG_LEVEL, LISTENER__RETRY__FAULTS and so on; lists are one value."""
    for name, field in settings.model_fields.items():
        sections = _sections(field.annotation)
        if not sections:
            yield name.upper()
        for section in sections:
            yield from (f"{name.upper()}__{key}" for key in _keys(section))


def _sections(annotation: object) -> list[type[BaseModel]]:
    """The section that a field holds, perhaps an optional one."""
    found = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return [one for one in found if isinstance(one, type) and issubclass(one, BaseModel)]
