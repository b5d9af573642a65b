"""When a failed attempt is made again: a pure decision."""

import random
from datetime import datetime, timedelta

from skiagraph.settings.listener import RetrySettings


def next_attempt(
    settings: RetrySettings,
    *,
    attempts: int,
    since: datetime,
    now: datetime,
    after_seconds: float | None = None,
    draw: random.Random | None = None,
) -> datetime | None:
    """When to try again: doubling waits with full jitter in their upper half; None: give up.

    attempts: failed ones before this. after_seconds: the peer's own wish.
    """
    if now - since > timedelta(hours=settings.give_up_after_hours):
        return None
    longest = min(settings.longest_seconds, settings.first_seconds * 2 ** min(attempts, 32))
    wait = (draw or random).uniform(longest / 2, longest)
    return now + timedelta(seconds=min(max(wait, after_seconds or 0.0), settings.longest_seconds))
