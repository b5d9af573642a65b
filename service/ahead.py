"""Work on many items at once, but no further ahead than whoever takes the results."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


async def in_order(
    work: Callable[[_Item], Awaitable[_Result]], items: Iterable[_Item], *, ahead: int
) -> AsyncIterator[_Result]:
    """The result of each item, in order; `ahead` items at most are under way or done and not yet taken.

    When the taker stops, or one item fails, the others are cancelled.
    """
    under_way: deque[asyncio.Future[_Result]] = deque()
    try:
        for item in items:
            under_way.append(asyncio.ensure_future(work(item)))
            if len(under_way) == ahead:
                yield await under_way.popleft()
        while under_way:
            yield await under_way.popleft()
    finally:
        for future in under_way:
            future.cancel()
