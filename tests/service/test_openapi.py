"""The OpenAPI description against the routes and the wire types that exist."""

import pytest

from models.rejection import RejectionCode
from service.contract import RadiographResult, StudyRequest, StudyResult
from service.http import api
from service.openapi import OPERATIONS, description
from service.rejections import FIXES

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


def test_what_may_work_later_says_when() -> None:
    for path in DOCUMENT["paths"].values():
        for operation in path.values():
            for status, response in operation["responses"].items():
                assert ("Retry-After" in response.get("headers", {})) is (status in {"429", "503", "504"})


def test_models_that_are_known_are_named_wherever_one_is_asked_for() -> None:
    known = description("1", models=["a", "b"], operating_points=["p"])
    scored = {each["name"]: each["schema"] for each in known["paths"]["/v1/score"]["post"]["parameters"]}
    assert scored["model"]["enum"] == ["a", "b"]
    assert scored["operating_point"]["enum"] == ["p"]
    (name,) = known["paths"]["/v1/models/{name}"]["get"]["parameters"]
    assert name["schema"]["enum"] == ["a", "b"]
    request = known["components"]["schemas"]["StudyRequest"]["properties"]
    assert request["model"]["anyOf"][0]["enum"] == ["a", "b"]
    assert "enum" not in str(description("1")["paths"]["/v1/score"]["post"]["parameters"])


def test_every_rejection_says_what_to_do_about_it() -> None:
    assert set(FIXES) == set(RejectionCode)
