"""`skiagraph score`: many files on this machine, several at once; whatever a file is, it has a result."""

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from models.rejection import Rejection, RejectionCode
from runners.analysis import Analysis, Scored, scaled
from service.contract import RadiographResult
from service.results import identity_of, result_of
from skiagraph.inputs import shown
from skiagraph.settings import Settings

_AHEAD: Final = 4  # answers a core that may wait to be taken


@dataclass(frozen=True, kw_only=True, eq=False)
class FileScore:
    """What is said of one file. heatmap: the picture written for it, if any."""

    path: Path
    result: RadiographResult
    heatmap: Path | None
    scored: Scored | None


class Scorer(AbstractContextManager["Scorer"]):
    """The whole line in one process; `heatmaps` is a folder for grey anomaly maps, made when needed."""

    def __init__(self, settings: Settings, *, heatmaps: Path | None = None) -> None:
        # One core a radiograph: decoding one while scoring another keeps all of them busy.
        cv2.setNumThreads(1)
        service = settings.service.model_copy(update={"engine_threads": 1})
        self.settings = settings.model_copy(update={"service": service})
        self.analysis = Analysis(self.settings)
        self.model = identity_of(self.analysis.engine)
        self._heatmaps = heatmaps
        if heatmaps is not None:
            heatmaps.mkdir(parents=True, exist_ok=True)

    def score(self, files: Sequence[Path], names: Sequence[str], *, keep: bool) -> Iterator[FileScore]:
        """One answer a file, in order; names: of the heatmaps. keep: hold on to what a report needs."""
        workers = len(os.sched_getaffinity(0))
        pool = ThreadPoolExecutor(workers, thread_name_prefix="score")
        under_way: deque[Future[FileScore]] = deque()
        try:
            for path, name in zip(files, names, strict=True):
                under_way.append(pool.submit(self._one, path, name, keep=keep))
                if len(under_way) > _AHEAD * workers:  # whoever takes the answers may be slower than we are
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _one(self, path: Path, name: str, *, keep: bool) -> FileScore:
        begin = time.perf_counter()
        heatmap = None
        outcome: Scored | Rejection
        try:
            outcome = self._analysed(path, drawn=keep)
            if self._heatmaps is not None and isinstance(outcome, Scored):
                target = heatmap_path(self._heatmaps, name)
                write_map(target, outcome)
                heatmap = target
        except OSError as error:
            outcome = _unusable(f"cannot be read or written: {error.strerror or error}")
        except Exception as error:  # one file never stops the run
            outcome = _unusable(f"unexpected {type(error).__name__}: {error}")
        result = result_of(outcome, file=shown(path), model=self.model, seconds=time.perf_counter() - begin)
        scored = outcome if keep and isinstance(outcome, Scored) else None
        return FileScore(path=path, result=result, heatmap=heatmap, scored=scored)

    def _analysed(self, path: Path, *, drawn: bool) -> Scored | Rejection:
        size, most = path.stat().st_size, self.settings.service.max_body_bytes
        if size > most:
            reason = f"the file has {size:,} bytes, the setting service.max_body_bytes allows {most:,}"
            return Rejection(code=RejectionCode.TOO_LARGE, reason=reason)
        return self.analysis.analyse(path.read_bytes(), drawn=drawn)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.analysis.close()

    def __enter__(self) -> Self:
        return self


def _unusable(reason: str) -> Rejection:
    return Rejection(code=RejectionCode.UNDECODABLE, reason=shown(reason))


def grey_map(scored: Scored) -> NDArray[np.uint8]:
    """The anomaly map at the source's size (h, w), 255 at its own maximum."""
    prepared = scored.prepared
    geometry = scaled(prepared.model_input.geometry, prepared.source_width_px, prepared.source_height_px)
    drawn = np.clip(geometry.map_to_source(scored.anomaly_map), 0, None)
    peak = float(drawn.max())
    return np.asarray(np.round(drawn * (255 / peak if peak > 0 else 0)), dtype=np.uint8)


def write_map(path: Path, scored: Scored) -> None:
    """Write `grey_map` as PNG; OSError when it cannot be written."""
    encoded = cv2.imencode(".png", grey_map(scored), [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
    path.write_bytes(encoded.tobytes())


def heatmap_path(folder: Path, name: str) -> Path:
    """Where the anomaly map of the radiograph of that output name goes."""
    return folder / f"{name}.png"


def output_names(files: Sequence[Path]) -> list[str]:
    """The stem of each file; a stem that was taken already gets a number, so that nothing is overwritten."""
    used: set[str] = set()
    names = []
    for path in files:
        name, number = path.stem, 1
        while name in used:
            number += 1
            name = f"{path.stem}-{number}"
        used.add(name)
        names.append(name)
    return names
