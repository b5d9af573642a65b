"""Which rule takes a study, and what follows: a pure decision from headers to a route."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from dicom_listener.ledger.records import Route
from dicom_listener.ledger.states import RevisionState
from skiagraph.settings.listener import ListenerSettings
from skiagraph.settings.rules import Rule


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How long a study may stay incomplete. rank: place of the rule that says so; the first one counts."""

    quiet_period_seconds: float
    max_wait_seconds: float
    expected_views: frozenset[str] = frozenset()  # patterns
    rank: int = 0


def takes(rule: Rule, attributes: Mapping[str, str]) -> bool:
    """Whether a rule takes an instance: every keyword matches; an absent attribute is the empty text."""
    return all(
        any(fnmatchcase(attributes.get(keyword, "").casefold(), pattern.casefold()) for pattern in patterns)
        for keyword, patterns in rule.when.items()
    )


def rule_for(rules: Iterable[Rule], instances: Iterable[Mapping[str, str]]) -> Rule | None:
    """The first rule in order that takes any instance of the study."""
    seen = list(instances)
    return next((rule for rule in rules if any(takes(rule, attributes) for attributes in seen)), None)


def route(settings: ListenerSettings, rule: Rule | None) -> Route:
    """What is to be done with a study that this rule, or none, takes."""
    everywhere = tuple(destination.name for destination in settings.destinations)
    if rule is None:
        return Route(destinations=everywhere)
    return Route(
        state=RevisionState.DROPPED
        if rule.drop
        else RevisionState.HELD
        if rule.hold
        else RevisionState.READY,
        rule=rule.name,
        reason=rule.reason,
        gate=rule.gate,
        model=rule.model,
        operating_point=rule.operating_point,
        priority=rule.priority,
        destinations=everywhere if rule.destinations is None else rule.destinations,
    )


def timing(settings: ListenerSettings, rule: Rule | None) -> Timing:
    order = settings.rules_in_order
    quiet = settings.quiet_period_seconds if rule is None else rule.quiet_period_seconds
    longest = settings.max_wait_seconds if rule is None else rule.max_wait_seconds
    return Timing(
        quiet_period_seconds=quiet or settings.quiet_period_seconds,
        max_wait_seconds=longest or settings.max_wait_seconds,
        expected_views=frozenset(rule.expected_views if rule else ()),
        rank=len(order) if rule is None else order.index(rule),
    )


def all_there(expected: Iterable[str], views: Iterable[str]) -> bool:
    """Whether each expected pattern matches a View Position that has come."""
    seen = [view.casefold() for view in views]
    return all(any(fnmatchcase(view, pattern.casefold()) for view in seen) for pattern in expected)
