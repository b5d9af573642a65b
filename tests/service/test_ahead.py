"""Back-pressure of a batch: no further ahead than the taker allows."""

import asyncio

import pytest

from service.ahead import in_order


def test_results_keep_their_order_whatever_ends_first() -> None:
    async def work(number: int) -> int:
        await asyncio.sleep(0.002 * (number % 3))
        return number

    async def taken() -> list[int]:
        return [result async for result in in_order(work, range(20), ahead=4)]

    assert asyncio.run(taken()) == list(range(20))


def test_a_taker_that_waits_holds_the_work_up() -> None:
    begun: list[int] = []

    async def work(number: int) -> int:
        begun.append(number)
        return number

    async def slowly() -> None:
        results = in_order(work, range(100), ahead=5)
        for expected in range(3):
            assert await anext(results) == expected
            await asyncio.sleep(0.01)
            assert len(begun) == expected + 5
        await results.aclose()
        await asyncio.sleep(0.01)
        assert len(begun) == 7

    asyncio.run(slowly())


@pytest.mark.parametrize("fails", [False, True], ids=["taker leaves", "item fails"])
def test_what_nobody_waits_for_any_more_is_cancelled(fails: bool) -> None:
    ended: list[str] = []

    async def work(number: int) -> int:
        if number == 0:
            if fails:
                raise ValueError("broken")
            return 0
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return number

    async def take_one() -> None:
        results = in_order(work, range(10), ahead=4)
        try:
            await anext(results)
            await asyncio.sleep(0.01)
        finally:
            await results.aclose()
            await asyncio.sleep(0.01)

    if fails:
        with pytest.raises(ValueError, match="broken"):
            asyncio.run(take_one())
    else:
        asyncio.run(take_one())
    assert ended == ["cancelled"] * 3
