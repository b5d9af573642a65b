"""The plan cache: what is sound is read, everything else is built, once, whoever is killed in between."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runners.engines.graph import Graph
from runners.engines.plan_builder import BatchProfile, Built
from runners.engines.plan_cache import PlanCache, PlanKey, Target, cached_plan
from runners.engines.tensorrt_library import Library, PlanError

KEY = PlanKey(
    graph="model.onnx",
    graph_sha256="0" * 64,
    precision="fp32",
    library="tensorrt",
    library_version="10.16.0",
    recipe=1,
    gpu_name="NVIDIA L4",
    compute_capability=89,
    driver="580.65.06",
    typical_batch=4,
    maximum_batch=8,
)
PLAN = b"a plan\n" * 40
SPAWN = multiprocessing.get_context("spawn")


def never(_kernel_times: bytes) -> Built:
    raise AssertionError("a plan was built though a sound one was there")


def fresh(_kernel_times: bytes) -> Built:
    return Built(plan=PLAN)


@pytest.fixture
def cache(tmp_path: Path) -> PlanCache:
    return PlanCache(folder=tmp_path / "plans")


def test_a_plan_is_built_once_and_then_read(cache: PlanCache) -> None:
    assert cache.get(KEY, fresh) == PLAN
    assert cache.get(KEY, never) == PLAN
    assert PlanCache(folder=cache.folder).get(KEY, never) == PLAN


def test_only_the_service_may_write_to_the_folder(cache: PlanCache) -> None:
    cache.get(KEY, fresh)
    assert cache.folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("field", [field.name for field in fields(PlanKey)])
def test_nothing_is_shared_when_any_part_of_the_key_differs(field: str, cache: PlanCache) -> None:
    cache.get(KEY, fresh)
    value = getattr(KEY, field)
    other = replace(KEY, **{field: value + 1 if isinstance(value, int) else f"{value}x"})
    assert cache.get(other, lambda _: Built(plan=b"other")) == b"other"
    assert cache.get(KEY, never) == PLAN


def test_a_foreign_plan_under_our_name_is_built_again(cache: PlanCache) -> None:
    foreign = replace(KEY, gpu_name="NVIDIA A2")
    cache.get(foreign, lambda _: Built(plan=b"foreign"))
    (cache.folder / foreign.file_name).rename(cache.folder / KEY.file_name)
    assert cache.get(KEY, fresh) == PLAN
    assert cache.get(KEY, never) == PLAN


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_never_read(data: st.DataObject, cache: PlanCache) -> None:
    cache.get(KEY, fresh)
    path = cache.folder / KEY.file_name
    sound = path.read_bytes()
    place = data.draw(st.integers(0, len(sound) - 1))
    damaged = data.draw(
        st.sampled_from(
            [
                sound[:place],
                sound[:place]
                + bytes([sound[place] ^ 1 << data.draw(st.integers(0, 7))])
                + sound[place + 1 :],
                sound[:place] + b"\n" + sound[place:],
                sound + b"\0",
            ]
        )
    )
    path.write_bytes(damaged)
    builds: list[bytes] = []

    def count(_kernel_times: bytes) -> Built:
        builds.append(PLAN)
        return Built(plan=PLAN)

    assert cache.get(KEY, count) == PLAN
    assert len(builds) == 1
    assert path.read_bytes() == sound


def test_a_discarded_plan_is_built_again(cache: PlanCache) -> None:
    cache.get(KEY, fresh)
    cache.discard(KEY)
    cache.discard(KEY)
    assert cache.get(KEY, lambda _: Built(plan=b"newer")) == b"newer"


def test_a_failed_build_leaves_nothing(cache: PlanCache) -> None:
    def refuse(_kernel_times: bytes) -> Built:
        raise PlanError("TopK is refused")

    with pytest.raises(PlanError, match="TopK"):
        cache.get(KEY, refuse)
    assert not list(cache.folder.glob("*.plan"))
    assert cache.get(KEY, fresh) == PLAN


def test_kernel_times_go_into_the_next_build_on_the_same_generation(cache: PlanCache) -> None:
    seen: list[bytes] = []

    def build(kernel_times: bytes) -> Built:
        seen.append(kernel_times)
        return Built(plan=PLAN, kernel_times=b"times")

    for key in (KEY, replace(KEY, maximum_batch=16), replace(KEY, compute_capability=75)):
        cache.get(key, build)
    assert seen == [b"", b"times", b""]


def test_without_a_folder_to_write_to_every_start_builds(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    cache = PlanCache(folder=tmp_path / "file" / "plans")
    assert cache.get(KEY, fresh) == PLAN
    assert cache.get(KEY, lambda _: Built(plan=b"again")) == b"again"


def test_a_plan_that_cannot_be_kept_still_serves(cache: PlanCache) -> None:
    (cache.folder / KEY.file_name).mkdir(parents=True)  # nothing can take its place
    assert cache.get(KEY, fresh) == PLAN


def _build_slowly(folder: Path) -> bytes:
    def build(_kernel_times: bytes) -> Built:
        (folder / f"built-by-{os.getpid()}").touch()
        time.sleep(0.5)
        return Built(plan=PLAN)

    return PlanCache(folder=folder).get(KEY, build)


def test_processes_that_start_together_build_once(cache: PlanCache) -> None:
    with ProcessPoolExecutor(3, mp_context=SPAWN) as pool:
        plans = list(pool.map(_build_slowly, [cache.folder] * 3))
    assert plans == [PLAN] * 3
    assert len(list(cache.folder.glob("built-by-*"))) == 1


def _build_forever(folder: Path) -> None:
    def build(_kernel_times: bytes) -> Built:
        (folder / "building").touch()
        time.sleep(600)
        return Built(plan=PLAN)

    PlanCache(folder=folder).get(KEY, build)


def test_a_killed_builder_holds_nobody_up(cache: PlanCache) -> None:
    victim = SPAWN.Process(target=_build_forever, args=(cache.folder,))
    victim.start()
    deadline = time.monotonic() + 30
    while not (cache.folder / "building").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(victim.pid or 0, signal.SIGKILL)
    victim.join()
    assert cache.get(KEY, fresh) == PLAN


def test_a_real_plan_is_kept(make_graph: Callable[..., Graph], rtx: Library, cache: PlanCache) -> None:
    graph, profile = make_graph(), BatchProfile.up_to(4)
    target = Target.ahead_of_time(86)
    key, plan = cached_plan(cache, graph, library=rtx, target=target, profile=profile)
    assert len(plan) > 1000
    assert cache.get(key, never) == plan
