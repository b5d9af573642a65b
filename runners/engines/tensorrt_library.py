"""TensorRT and TensorRT-RTX as values: which is installed, what it says, how far its build is."""

import importlib
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import skiagraph.log
from runners.errors import RunnerError

_log = skiagraph.log.get(__name__)
_PROGRESS_SECONDS = 5.0
_SOURCE_LINE = re.compile(r" ?\(?In \w+ at /\S+\)*")  # the library's own source lines say nothing to a reader
_listening = threading.Lock()


class PlanError(RunnerError):
    """A graph, plan or library that TensorRT cannot run; the text names it, the operator and the way out."""


@dataclass(frozen=True, kw_only=True)
class Library:
    """One of the two. `ahead_of_time`: builds for a GPU that is not there; plans outlive a driver."""

    module: ModuleType
    name: str
    version: str
    ahead_of_time: bool


def tensorrt_rtx() -> Library:
    """TensorRT-RTX; raises PlanError naming the extra to install."""
    return _import("tensorrt_rtx_bindings", name="tensorrt-rtx", ahead_of_time=True, extra="rtx")


def installed_library() -> Library:
    """TensorRT, or TensorRT-RTX where that is the one installed; raises PlanError."""
    try:
        return _import("tensorrt", name="tensorrt", ahead_of_time=False, extra="gpu")
    except PlanError as error:
        try:
            return tensorrt_rtx()
        except PlanError:
            raise error from None


def _import(module: str, *, name: str, ahead_of_time: bool, extra: str) -> Library:
    try:
        found = importlib.import_module(module)
    except (ImportError, OSError) as error:  # OSError: one of its shared libraries is missing
        raise PlanError(f"{name} cannot be imported ({error}): pip install 'skiagraph[{extra}]'") from error
    return Library(module=found, name=name, version=found.__version__, ahead_of_time=ahead_of_time)


@contextmanager
def complaints(library: Library) -> Iterator[list[str]]:
    """The library's error messages while inside; it keeps one logger per process: one caller at a time."""
    with _listening:
        errors: list[str] = []
        logger(library.module).collected = errors
        try:
            yield errors
        finally:
            logger(library.module).collected = None


def told(errors: list[str]) -> str:
    """Error messages as one sentence for people."""
    return "; ".join(_SOURCE_LINE.sub("", error).strip() for error in errors) or "no reason given"


@cache
def logger(module: ModuleType) -> Any:
    """The library's logger, into our log; one object for the life of the process, as the library asks."""
    trt: Any = module
    severity = trt.ILogger.Severity

    class Logger(trt.ILogger):  # type: ignore[misc]  # a class of a module chosen at run time
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.collected: list[str] | None = None

        def log(self, level: Any, message: str) -> None:
            if level <= severity.ERROR and self.collected is not None:
                self.collected.append(message)
            elif level <= severity.ERROR:
                _log.error("TensorRT fails", message=message)
            elif level == severity.WARNING:
                _log.warning("TensorRT warns", message=message)

    return Logger()


def progress(library: Library, graph: str) -> Any:
    """A progress monitor for a builder: a line every few seconds, so that a long build is seen to move."""
    trt: Any = library.module

    class Progress(trt.IProgressMonitor):  # type: ignore[misc]  # a class of a module chosen at run time
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}
            self._spoke = time.monotonic()

        def phase_start(self, phase: str, _parent: str | None, steps: int) -> None:
            self._steps[phase] = steps

        def step_complete(self, phase: str, step: int) -> bool:
            if time.monotonic() - self._spoke > _PROGRESS_SECONDS:
                self._spoke = time.monotonic()
                _log.info(
                    "Building a plan", graph=graph, phase=phase, step=step + 1, steps=self._steps.get(phase)
                )
            return True

        def phase_finish(self, phase: str) -> None:
            self._steps.pop(phase, None)

    return Progress()
