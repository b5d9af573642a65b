"""The pure decisions: admission, assembly, routing, retries, states, statuses."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some
from pydantic import ValidationError

from dicom_listener import admission, delivery, retry, routing
from dicom_listener.admission import Reason
from dicom_listener.assembly import Assembly
from dicom_listener.delivery import Outcome
from dicom_listener.errors import ImpossibleTransitionError
from dicom_listener.headers import is_uid
from dicom_listener.ledger.records import Trigger
from dicom_listener.ledger.states import (
    FINISHED,
    REPLACEABLE,
    TRANSITIONS,
    RevisionEvent,
    RevisionState,
    after,
)
from dicom_listener.routing import Timing
from service.contract import IMPLEMENTATION_CLASS_UID
from skiagraph.phantom import PhantomKind, as_dicom, draw
from skiagraph.settings.listener import ListenerSettings, RetrySettings

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def settings(**values: object) -> ListenerSettings:
    return ListenerSettings.model_validate({"folder": Path("unused"), **values})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"called_ae": "OTHER"}, (Reason.CALLED_AE, 1, 1, 7)),
        ({"calling_ae": "STRANGER"}, (Reason.CALLING_AE, 1, 1, 3)),
        ({"address": "10.1.0.9"}, (Reason.ADDRESS, 1, 1, 3)),
        ({"calling_ae": "ANYWHERE", "address": "10.1.0.9"}, None),
        ({"calling_ae": "SUBNET", "address": "10.9.8.7"}, None),
        ({"implementation_class_uid": IMPLEMENTATION_CLASS_UID}, (Reason.OURSELVES, 1, 1, 1)),
        ({"active": 2}, (Reason.TOO_MANY, 2, 3, 2)),
        ({"free_bytes": 99}, (Reason.NO_SPACE, 2, 3, 1)),
        ({"stopping": True}, (Reason.STOPPING, 2, 3, 1)),
    ],
)
def test_association_is_admitted_or_refused_with_its_reason(
    changes: dict[str, object], expected: tuple[object, ...] | None
) -> None:
    configured = settings(
        peers=[
            {"ae_title": "CR1", "host": "10.1.0.1"},
            {"ae_title": "ANYWHERE"},
            {"ae_title": "SUBNET", "host": "10.9.0.0/16"},
        ],
        max_associations=2,
        reserve_bytes=100,
    )
    request = {
        "calling_ae": "CR1",
        "called_ae": "SKIAGRAPH",
        "address": "10.1.0.1",
        "implementation_class_uid": "1.2",
        "free_bytes": 100,
        "active": 0,
        "stopping": False,
    }
    refusal = admission.associate(configured, **(request | changes))  # type: ignore[arg-type]
    seen = refusal and (refusal.reason, refusal.result, refusal.source, refusal.diagnostic)
    assert seen == expected


@given(some.text())
def test_only_digits_and_dots_become_parts_of_a_path(text: str) -> None:
    if is_uid(text):
        assert set(text) <= set("0123456789.")
        assert ".." not in text
        assert 0 < len(text) <= 64


@pytest.mark.parametrize(
    "hostile", ["../../etc/passwd", "1.2/3", "1..2", ".", "", "1.2\n", "1.2\0", "1" * 65, "١.٢"]
)
def test_hostile_uids_are_no_uids(hostile: str) -> None:
    assert not is_uid(hostile)


def test_each_expected_pattern_needs_a_view() -> None:
    assert routing.all_there(["PA", "*O", "L*"], ["pa", "LLO", "LL"])
    assert not routing.all_there(["PA", "*O"], ["PA", "LL", ""])


def test_timing_of_the_first_rule_in_order_counts_whatever_comes_first() -> None:
    configured = settings(rules=[{"name": "hands", "expected_views": ["PA"]}])
    for order in (configured.rules[0], None), (None, configured.rules[0]):
        assembly = Assembly(Clock())
        for rule in order:
            assembly.arrived("1.2", routing.timing(configured, rule), ["PA"])
        assert [trigger for _, trigger in assembly.take_complete()] == [Trigger.EXPECTED_VIEWS]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_study_is_complete_after_its_quiet_period_or_its_longest_wait() -> None:
    clock = Clock()
    assembly = Assembly(clock)
    timing = Timing(quiet_period_seconds=10, max_wait_seconds=25)
    assembly.arrived("1.2", timing)
    clock.now += 9.9
    assert assembly.take_complete() == []
    clock.now += 0.1
    assert [trigger for _, trigger in assembly.take_complete()] == [Trigger.QUIET_PERIOD]
    assert assembly.take_complete() == []
    for _ in range(5):
        assembly.arrived("1.2", timing)
        assert assembly.take_complete() == []
        clock.now += 5
    assert [trigger for _, trigger in assembly.take_complete()] == [Trigger.MAX_WAIT]


def test_first_rule_that_takes_an_instance_decides() -> None:
    configured = settings(
        destinations=[{"name": "pacs", "ae_title": "PACS", "host": "h", "port": 104}],
        rules=[
            {"name": "phantom", "when": {"PatientID": "phantom*", "Modality": "DX"}, "gate": False},
            {"name": "ward", "when": {"CallingAETitle": "WARD?"}, "hold": True, "destinations": []},
        ],
    )
    phantom = routing.rule_for(
        configured.rules, [{"PatientID": "x"}, {"PatientID": "PHANTOM-1", "Modality": "DX"}]
    )
    assert phantom is not None
    assert phantom.name == "phantom"
    chosen = routing.route(configured, phantom)
    assert (chosen.gate, chosen.destinations, chosen.state) == (False, ("pacs",), RevisionState.READY)
    ward = routing.rule_for(configured.rules, [{"PatientID": "PHANTOM-1", "CallingAETitle": "WARD1"}])
    assert routing.route(configured, ward).state is RevisionState.HELD
    assert routing.route(configured, ward).destinations == ()
    assert routing.rule_for(configured.rules, [{"Modality": "DX"}]) is None


def test_shipped_rules_come_after_those_of_the_site() -> None:
    configured = settings(
        rules=[{"name": "children", "when": {"PatientAge": ["00?Y", "01?Y"]}, "priority": 1}],
        shipped_rules=["phantoms", "test-patients"],
    )

    def rule(**attributes: str) -> str | None:
        taken = routing.rule_for(configured.rules_in_order, [attributes])
        return taken.name if taken else None

    drawn = as_dicom(draw(PhantomKind.PLAIN, seed=1, width=64, height=80))
    assert rule(QualityControlSubject=drawn.QualityControlSubject) == "phantoms-1"
    assert rule(PatientName=str(drawn.PatientName)) == "phantoms-3"
    assert rule(PatientName="TEST^ANNA") == "test-patients-1"
    assert rule(PatientName="Testa^Anna", PatientAge="014Y", QualityControlSubject="NO") == "children"
    assert rule(PatientName="Testa^Anna", PatientAge="040Y") is None
    phantom = routing.route(configured, configured.rules_in_order[1])
    assert phantom.state is RevisionState.DROPPED
    assert phantom.reason == "a quality control phantom, not a patient"
    with pytest.raises(ValidationError, match="phantoms"):
        settings(shipped_rules=["phantom"])


@given(some.integers(0, 200), some.integers(0, 2**32))
def test_waits_grow_to_the_longest_and_are_spread(attempts: int, seed: int) -> None:
    patience = RetrySettings(first_seconds=2, longest_seconds=60)
    following = retry.next_attempt(patience, attempts=attempts, since=NOW, now=NOW, draw=random.Random(seed))
    assert following is not None
    expected = min(60.0, 2.0 * 2**attempts)
    assert expected / 2 <= (following - NOW).total_seconds() <= expected


def test_retries_end_and_heed_the_peers_wish() -> None:
    patience = RetrySettings(first_seconds=1, longest_seconds=60, give_up_after_hours=1)
    late = NOW + timedelta(hours=1, seconds=1)
    assert retry.next_attempt(patience, attempts=1, since=NOW, now=late) is None
    wished = retry.next_attempt(patience, attempts=0, since=NOW, now=NOW, after_seconds=30)
    assert wished == NOW + timedelta(seconds=30)


def test_states_are_closed_under_the_table() -> None:
    with pytest.raises(ImpossibleTransitionError, match="delivered cannot meet score"):
        after(RevisionState.DELIVERED, RevisionEvent.SCORE)
    assert {state for state, _ in TRANSITIONS} | FINISHED == set(RevisionState)
    assert all((state, RevisionEvent.SUPERSEDE) in TRANSITIONS for state in REPLACEABLE)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (0x0000, Outcome.ACCEPTED),
        (0xB000, Outcome.ACCEPTED),
        (0x0111, Outcome.ACCEPTED),
        (0xA700, Outcome.TRANSIENT),
        (0x0110, Outcome.TRANSIENT),
        (0xA900, Outcome.PERMANENT),
        (0xC123, Outcome.PERMANENT),
        (0x0124, Outcome.PERMANENT),
    ],
)
def test_status_says_whether_to_try_again(status: int, outcome: Outcome) -> None:
    assert delivery.judge(status) is outcome
