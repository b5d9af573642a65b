"""Plans on disk: each is a cache entry for one graph, library, GPU and batch profile, and never an artefact.

File: one line of JSON (the key, the plan's length and sha256), then the plan. What is damaged, cut short or
made for something else is built again. The checksum finds damage, not malice, and a plan is code for the GPU:
nobody but the service may write to the folder.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import skiagraph.log
from runners.engines.graph import Graph
from runners.engines.plan_builder import RECIPE, BatchProfile, Built, build_plan
from runners.engines.tensorrt_library import Library

ANY = "any"  # GPU and driver of a plan built ahead of time: its capability alone decides

_log = skiagraph.log.get(__name__)


@dataclass(frozen=True, kw_only=True)
class Target:
    """The GPU a plan is for; `compute_capability` 89 is 8.9."""

    gpu_name: str
    compute_capability: int
    driver: str

    @classmethod
    def ahead_of_time(cls, compute_capability: int) -> "Target":
        return cls(gpu_name=ANY, compute_capability=compute_capability, driver=ANY)


@dataclass(frozen=True, kw_only=True)
class PlanKey:
    """Everything a plan depends on: two equal keys may share a plan, two different ones never do."""

    graph: str
    graph_sha256: str
    precision: str
    library: str
    library_version: str
    recipe: int
    gpu_name: str
    compute_capability: int
    driver: str
    typical_batch: int
    maximum_batch: int

    @classmethod
    def of(cls, graph: Graph, library: Library, target: Target, profile: BatchProfile) -> "PlanKey":
        return cls(
            graph=graph.path.name,
            graph_sha256=graph.sha256,
            precision=graph.precision,
            library=library.name,
            library_version=library.version,
            recipe=RECIPE,
            gpu_name=target.gpu_name,
            compute_capability=target.compute_capability,
            driver=target.driver,
            typical_batch=profile.typical,
            maximum_batch=profile.maximum,
        )

    @property
    def file_name(self) -> str:
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        return f"{Path(self.graph).stem}-sm{self.compute_capability}-{digest[:20]}.plan"


@dataclass(frozen=True, kw_only=True)
class PlanCache:
    """A folder of plans; several processes and machines may share it."""

    folder: Path

    def get(self, key: PlanKey, build: Callable[[bytes], Built]) -> bytes:
        """The plan of `key`: read where it is there and sound, else `build(kernel_times)` and published.

        One process builds a key, the others wait for it and read. Raises what `build` raises. A folder that
        cannot be written is a warning: the plan then serves this process only.
        """
        path = self.folder / key.file_name
        plan, _ = _read(path, key)  # before the lock: a folder of ready plans may be read-only
        if plan is not None:
            return _found(path, plan)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = path.with_suffix(".lock").open("w")
        except OSError as error:
            _log.warning("Plan cache cannot be written: every start builds again", error=str(error))
            return build(b"").plan
        with lock:  # closing it, or the end of the process, gives the lock back
            fcntl.flock(lock, fcntl.LOCK_EX)
            plan, reason = _read(path, key)
            if plan is not None:
                return _found(path, plan)
            _log.info("Building a plan: minutes on some GPUs", plan=path.name, reason=reason)
            times = self.folder / f"kernel-times-sm{key.compute_capability}.cache"
            built = build(times.read_bytes() if times.is_file() else b"")
            try:
                temporary = path.with_suffix(".tmp")  # ours alone: we hold the lock
                _publish(path, temporary, _header(key, built.plan), built.plan)
                if built.kernel_times:
                    _publish(times, temporary, built.kernel_times)
            except OSError as error:
                _log.warning("Plan could not be kept: the next start builds again", error=str(error))
            return built.plan

    def discard(self, key: PlanKey) -> None:
        """Forget the plan of `key`, which the library would not load: the next `get` builds it again."""
        with suppress(OSError):  # a read-only folder
            (self.folder / key.file_name).unlink(missing_ok=True)


def cached_plan(
    cache: PlanCache, graph: Graph, *, library: Library, target: Target, profile: BatchProfile
) -> tuple[PlanKey, bytes]:
    """The plan of `graph` for `target`, from the cache or built into it; raises PlanError."""
    key = PlanKey.of(graph, library, target, profile)

    def build(kernel_times: bytes) -> Built:
        return build_plan(
            graph,
            library=library,
            profile=profile,
            compute_capability=target.compute_capability,
            kernel_times=kernel_times,
        )

    return key, cache.get(key, build)


def _found(path: Path, plan: bytes) -> bytes:
    _log.info("Found a plan", plan=path.name, plan_bytes=len(plan))
    return plan


def _header(key: PlanKey, plan: bytes) -> bytes:
    record = {"key": asdict(key), "plan_bytes": len(plan), "plan_sha256": hashlib.sha256(plan).hexdigest()}
    return json.dumps(record, sort_keys=True).encode() + b"\n"


def _read(path: Path, key: PlanKey) -> tuple[bytes | None, str]:
    """The plan in `path`, or None and why it is not used."""
    try:
        header, _, plan = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None, "there is none yet"
    except OSError as error:
        return None, f"it cannot be read ({error.strerror})"
    if plan and header + b"\n" == _header(key, plan):
        return plan, ""
    return None, "the file is damaged or was made for something else"


def _publish(path: Path, temporary: Path, *parts: bytes) -> None:
    """Write so that a reader sees the whole file or none, also after a power cut."""
    with temporary.open("wb") as file:
        file.writelines(parts)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
