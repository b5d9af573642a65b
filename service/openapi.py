"""The OpenAPI description, made from the wire types and a table of the routes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic.json_schema import models_json_schema

from service.contract import Problem, RadiographResult, StudyRequest, StudyResult

_REF: Final = "#/components/schemas/"
_BINARY: Final = {"type": "string", "format": "binary"}
_UPLOADS: Final = ("application/dicom", "image/png", "image/jpeg", "application/octet-stream")


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What is documented of one route; problems: statuses beside 200, 401, 403 and 500."""

    method: str
    path: str
    summary: str
    answers: dict[str, dict[str, Any]]
    body: dict[str, dict[str, Any]] | None = None
    query: tuple[tuple[str, dict[str, Any]], ...] = ()
    problems: tuple[int, ...] = ()
    open_to_all: bool = False


def _parts(**parts: dict[str, Any]) -> dict[str, Any]:
    """A form that must have these parts and may have no others."""
    return {
        "type": "object",
        "required": list(parts),
        "properties": parts,
        "additionalProperties": False,
    }


_MANY: Final = {"type": "array", "minItems": 1, "items": _BINARY}
_TEXT: Final = {"type": "string"}
_MODEL: Final = ("model", _TEXT)
_POINT: Final = ("operating_point", _TEXT)
_ONE: Final[dict[str, dict[str, Any]]] = {
    **{kind: {"schema": _BINARY} for kind in _UPLOADS},
    "multipart/form-data": {
        "schema": _parts(file=_BINARY),
        "encoding": {"file": {"contentType": ", ".join(_UPLOADS)}},
    },
}
_TRY_LATER: Final = frozenset({429, 503, 504})
_RETRY_AFTER: Final = {"Retry-After": {"required": True, "schema": {"type": "integer", "minimum": 1}}}
_UPLOAD_PROBLEMS: Final = (400, 413, 422, 429, 503, 504)

OPERATIONS: Final = (
    Operation(
        method="POST",
        path="/v1/studies",
        summary="Score the instances of one study and report on it",
        body={
            "multipart/form-data": {
                "schema": _parts(request={"$ref": f"{_REF}StudyRequest"}, instances=_MANY),
                "encoding": {
                    "request": {"contentType": "application/json"},
                    "instances": {"contentType": "application/dicom"},
                },
            }
        },
        answers={
            "multipart/related": {
                "schema": _BINARY
                | {"description": "StudyResult as JSON, then one application/dicom part per object"}
            },
            "application/zip": {"schema": _BINARY | {"description": "result.json and one .dcm per object"}},
        },
        problems=(*_UPLOAD_PROBLEMS, 415),
    ),
    Operation(
        method="POST",
        path="/v1/score",
        summary="Score one radiograph",
        body=_ONE,
        query=(_MODEL, _POINT),
        answers={"application/json": {"schema": {"$ref": f"{_REF}RadiographResult"}}},
        problems=_UPLOAD_PROBLEMS,
    ),
    Operation(
        method="POST",
        path="/v1/scores",
        summary="Score many radiographs: a RadiographResult a line, in order",
        body={
            "multipart/form-data": {
                "schema": _parts(files=_MANY),
                "encoding": {"files": {"contentType": ", ".join(_UPLOADS)}},
            }
        },
        query=(_MODEL, _POINT),
        answers={"application/x-ndjson": {"schema": {"type": "string"}}},
        problems=(*_UPLOAD_PROBLEMS, 415),
    ),
    Operation(
        method="POST",
        path="/v1/heatmap",
        summary="Draw the anomaly map over one radiograph",
        body=_ONE,
        query=(
            _MODEL,
            _POINT,
            ("map", {"type": "string", "enum": ["overlay", "raw"], "default": "overlay"}),
        ),
        answers={"image/png": {"schema": _BINARY}},
        problems=_UPLOAD_PROBLEMS,
    ),
    Operation(
        method="GET",
        path="/v1/models",
        summary="The models that can be asked for, the default first",
        answers={"application/json": {"schema": {"type": "object", "required": ["models"]}}},
        problems=(503,),
    ),
    Operation(
        method="GET",
        path="/v1/models/{name}",
        summary="One model: operating points, evaluation, training data",
        answers={"application/json": {"schema": {"type": "object", "required": ["name", "evaluation"]}}},
        problems=(404, 503),
    ),
    Operation(
        method="GET",
        path="/v1/openapi.json",
        summary="This description",
        answers={"application/json": {"schema": {"type": "object"}}},
    ),
    Operation(
        method="GET",
        path="/livez",
        summary="Whether the process answers at all",
        answers={"application/json": {"schema": {"type": "object", "required": ["alive"]}}},
        open_to_all=True,
    ),
    Operation(
        method="GET",
        path="/metrics",
        summary="What is counted, in Prometheus's text format",
        answers={"text/plain": {"schema": {"type": "string"}}},
        open_to_all=True,
    ),
    Operation(
        method="GET",
        path="/readyz",
        summary="Whether radiographs can be scored, by which engine and why; 503 while they cannot",
        answers={"application/json": {"schema": {"type": "object", "required": ["ready"]}}},
        problems=(503,),
        open_to_all=True,
    ),
)


def description(
    version: str, *, models: Sequence[str] = (), operating_points: Sequence[str] = ()
) -> dict[str, Any]:
    """The OpenAPI 3.1 document; models, operating_points: what can be asked for, where it is known."""
    known = {"model": list(models), "operating_point": list(operating_points), "name": list(models)}
    enums = {name: {"enum": values} for name, values in known.items() if values}
    kinds = (Problem, RadiographResult, StudyRequest, StudyResult)
    _, schemas = models_json_schema(
        [(kind, "validation" if kind is StudyRequest else "serialization") for kind in kinds],
        ref_template=f"{_REF}{{model}}",
    )
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation, enums)
    for name in enums.keys() & schemas["$defs"]["StudyRequest"]["properties"].keys():
        either = schemas["$defs"]["StudyRequest"]["properties"][name]["anyOf"]
        either[0] = either[0] | enums[name]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Skiagraph",
            "version": version,
            "description": "Scores hand radiographs for anomalies. Research use only.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _described(operation: Operation, enums: dict[str, dict[str, Any]]) -> dict[str, Any]:
    problem = {"application/problem+json": {"schema": {"$ref": f"{_REF}Problem"}}}
    responses: dict[str, Any] = {"200": {"description": "Done", "content": operation.answers}}
    if operation.open_to_all:
        for status in operation.problems:
            responses[str(status)] = {
                "description": "Not ready",
                "headers": _RETRY_AFTER,
                "content": operation.answers,
            }
    else:
        for status in sorted({*operation.problems, 401, 403, 500}):
            responses[str(status)] = {
                "description": "See `code` and `detail`",
                "headers": _RETRY_AFTER if status in _TRY_LATER else {},
                "content": problem,
            }
    described: dict[str, Any] = {"summary": operation.summary, "responses": responses}
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": operation.body}
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "query", "schema": schema | enums.get(name, {})}
        for name, schema in operation.query
    ]
    if "{name}" in operation.path:
        parameters.append(
            {"name": "name", "in": "path", "required": True, "schema": _TEXT | enums.get("name", {})}
        )
    if parameters:
        described["parameters"] = parameters
    if not operation.open_to_all:
        described["security"] = [{"token": []}, {}]
    return described
