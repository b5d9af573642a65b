"""The OpenAPI description against the routes and the wire types that exist."""

import pytest

from service.contract import RadiographResult, StudyRequest, StudyResult
from service.http import api
from service.openapi import OPERATIONS, description

DOCUMENT = description("1.2.3")


def test_every_route_is_described_and_nothing_else() -> None:
    routes = {(method, route.path) for route in api.routes for method in route.methods - {"HEAD"}}
    assert {(operation.method, operation.path) for operation in OPERATIONS} == routes


@pytest.mark.parametrize("kind", [RadiographResult, StudyRequest, StudyResult])
def test_wire_types_are_described_with_all_their_fields(kind: type) -> None:
    assert set(DOCUMENT["components"]["schemas"][kind.__name__]["properties"]) == set(kind.model_fields)


def test_every_reference_leads_somewhere() -> None:
    def references(node: object) -> set[str]:
        if isinstance(node, dict):
            found = {node["$ref"]} if "$ref" in node else set()
            return found.union(*(references(value) for value in node.values()))
        return set().union(*(references(value) for value in node)) if isinstance(node, list) else set()

    defined = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert references(DOCUMENT) <= defined
