"""Which rule takes a study and why, without sending or storing anything: `skiagraph check --study`."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dicom_listener import admission, headers
from dicom_listener.errors import UnreadableInstanceError
from dicom_listener.headers import Headers
from dicom_listener.ledger.records import Route
from dicom_listener.routing import route, rule_for, takes
from skiagraph.settings.listener import ListenerSettings
from skiagraph.settings.rules import Rule


@dataclass(frozen=True, kw_only=True)
class RuleVerdict:
    """One rule, tried on a study. unmatched: keyword to the patterns that no instance matches."""

    rule: str
    taken: bool
    unmatched: dict[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What would happen to one study. ignored: SOP Instance UID to why it is kept and not scored."""

    study_instance_uid: str
    instances: int
    ignored: dict[str, str]
    rule: str | None
    verdicts: tuple[RuleVerdict, ...]
    route: Route


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    path: Path
    reason: str


def explain(
    settings: ListenerSettings, paths: Iterable[Path], *, calling_ae: str = "", called_ae: str | None = None
) -> tuple[list[Explanation], list[Unreadable]]:
    """Per study among the files, what the listener would do with it; and what it would refuse.

    calling_ae, called_ae: as if they had come so; our own AE title when no called one is given.
    """
    studies: dict[str, list[Headers]] = defaultdict(list)
    unreadable: list[Unreadable] = []
    for path in paths:
        try:
            found = headers.read(path)
        except UnreadableInstanceError as error:
            unreadable.append(Unreadable(path=path, reason=str(error)))
        else:
            studies[found.study_instance_uid].append(found)
    association = {"CallingAETitle": calling_ae, "CalledAETitle": called_ae or settings.ae_title}
    return [_explained(settings, study, found, association) for study, found in studies.items()], unreadable


def _explained(
    settings: ListenerSettings, study: str, found: list[Headers], association: dict[str, str]
) -> Explanation:
    ignored = {one.sop_instance_uid: why for one in found if (why := admission.ignored(one)) is not None}
    seen = [one.attributes | association for one in found if one.sop_instance_uid not in ignored]
    taken = rule_for(settings.rules_in_order, seen)
    return Explanation(
        study_instance_uid=study,
        instances=len(found),
        ignored=ignored,
        rule=taken.name if taken else None,
        verdicts=tuple(_tried(rule, seen) for rule in settings.rules_in_order),
        route=route(settings, taken),
    )


def _tried(rule: Rule, seen: list[dict[str, str]]) -> RuleVerdict:
    alone = {
        keyword: rule.model_copy(update={"when": {keyword: patterns}})
        for keyword, patterns in rule.when.items()
    }
    return RuleVerdict(
        rule=rule.name,
        taken=any(takes(rule, attributes) for attributes in seen),
        unmatched={
            keyword: rule.when[keyword]
            for keyword, only in alone.items()
            if not any(takes(only, attributes) for attributes in seen)
        },
    )
