"""Rules: what the node does with a study, by its headers; and those that come with this version."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from skiagraph.settings.base import Seconds, Section


def _several(patterns: Any) -> Any:
    return (patterns,) if isinstance(patterns, str) else patterns


Patterns = Annotated[
    tuple[str, ...],
    Field(min_length=1),
    BeforeValidator(_several, json_schema_input_type=str | tuple[str, ...]),
]


class Rule(Section):
    """What to do with the studies it takes; the first rule that takes an instance of a study decides.

    when: DICOM keyword (or CallingAETitle, CalledAETitle) to a pattern in shell style (`*`, `?`, `[…]`) or
    several of which one must match, compared without case; every keyword must match, and an empty `when`
    takes every study.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
    when: dict[str, Patterns] = Field(default_factory=dict)
    drop: bool = False  # keep the instances, make no result
    hold: bool = False  # wait for `skiagraph studies proceed`
    reason: Annotated[str, Field(max_length=200)] | None = None  # shown with what is dropped or held
    gate: bool = True  # false: score even what is not a hand; the report says so. For phantoms only
    model: str | None = None
    operating_point: str | None = None
    priority: Annotated[int, Field(ge=1, le=9)] = 5  # 1 is scored first
    destinations: tuple[str, ...] | None = None  # names; none given means all
    quiet_period_seconds: Seconds | None = None
    max_wait_seconds: Seconds | None = None
    expected_views: tuple[
        str, ...
    ] = ()  # patterns of View Position; the study is complete once each has come

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if self.drop and self.hold:
            raise ValueError(f"rule {self.name} says both drop and hold: choose one")
        names = self.destinations or ()
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"rule {self.name} names destinations more than once: {', '.join(twice)}; name each once"
            )
        return self


class ShippedRules(StrEnum):
    """Rules by name, tried after a site's own."""

    PHANTOMS = "phantoms"
    TEST_PATIENTS = "test-patients"


def _taken_by_one_of(name: str, keywords: Mapping[str, tuple[str, ...]], **does: Any) -> tuple[Rule, ...]:
    """A rule for each keyword, since all keywords of one rule must match."""
    return tuple(
        Rule(name=f"{name}-{number}", when={keyword: patterns}, **does)
        for number, (keyword, patterns) in enumerate(keywords.items(), start=1)
    )


SHIPPED_RULES: Mapping[ShippedRules, tuple[Rule, ...]] = {
    ShippedRules.PHANTOMS: _taken_by_one_of(
        "phantoms",
        {
            "QualityControlSubject": ("YES",),  # PS3.3 C.7.1.1
            "QualityControlImage": ("YES",),  # PS3.3 C.7.6.1
            "PatientName": ("*phantom*",),
            "PatientID": ("*phantom*",),
        },
        drop=True,
        reason="a quality control phantom, not a patient",
    ),
    # Answered like everybody else, so that a site can try its own chain, but after every patient.
    ShippedRules.TEST_PATIENTS: _taken_by_one_of(
        "test-patients",
        {"PatientName": ("test^*", "test", "zz*test*"), "PatientID": ("test*",)},
        priority=9,
    ),
}
