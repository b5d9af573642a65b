"""When a study is complete: arrivals and a clock in, studies to be cut out.

Time here is monotonic and lives in memory: a clock that is set back or forward changes nothing, and after a
restart every open study waits one quiet period again.
"""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from dicom_listener.ledger.records import Trigger
from dicom_listener.routing import Timing, all_there


@dataclass(frozen=True, kw_only=True)
class OpenStudy:
    """A study that instances are still coming for. Times: seconds of a monotonic clock."""

    study_instance_uid: str
    first_arrival: float
    last_arrival: float
    timing: Timing
    views: frozenset[str] = frozenset()


def complete(study: OpenStudy, now: float) -> Trigger | None:
    """Why the study is complete, or None while it is not."""
    if study.timing.expected_views and all_there(study.timing.expected_views, study.views):
        return Trigger.EXPECTED_VIEWS
    if now - study.last_arrival >= study.timing.quiet_period_seconds:
        return Trigger.QUIET_PERIOD
    if now - study.first_arrival >= study.timing.max_wait_seconds:
        return Trigger.MAX_WAIT
    return None


class Assembly:
    """The open studies of this process; safe to use from any thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[str, OpenStudy] = {}

    def arrived(self, study_instance_uid: str, timing: Timing, views: Iterable[str] = ()) -> None:
        """Instances of the study are durable; the timing of the first rule that takes any of them counts."""
        now = self._clock()
        with self._lock:
            known = self._open.get(study_instance_uid)
            if known is None:
                known = OpenStudy(
                    study_instance_uid=study_instance_uid, first_arrival=now, last_arrival=now, timing=timing
                )
            first = min(known.timing, timing, key=lambda one: one.rank)
            self._open[study_instance_uid] = replace(
                known, last_arrival=now, timing=first, views=known.views.union(views)
            )

    def take_complete(self) -> list[tuple[OpenStudy, Trigger]]:
        """Studies that are complete now; they are no longer open afterwards."""
        now = self._clock()
        with self._lock:
            found = [
                (study, trigger)
                for study in self._open.values()
                if (trigger := complete(study, now)) is not None
            ]
            for study, _ in found:
                del self._open[study.study_instance_uid]
        return found

    def put_back(self, study: OpenStudy) -> None:
        """A study whose revision could not be cut is open as before."""
        with self._lock:
            known = self._open.get(study.study_instance_uid, study)
            self._open[study.study_instance_uid] = replace(
                known, first_arrival=study.first_arrival, views=known.views | study.views
            )

    def age_seconds(self, study: OpenStudy) -> float:
        return self._clock() - study.first_arrival

    def count(self) -> int:
        with self._lock:
            return len(self._open)

    def oldest_age_seconds(self) -> float:
        now = self._clock()
        with self._lock:
            return max((now - study.first_arrival for study in self._open.values()), default=0.0)
