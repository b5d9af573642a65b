"""One radiograph as a straight line, in one process: decode, gate, geometry, graph, interpretation.

`skiagraph score` runs it as it is; the services run the same steps, `prepare` and `conclude`, around batches
of their own. An input that cannot be analysed is a value at every step.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from models.findings import Finding, interpret
from models.geometry import Geometry, GeometrySpec, ModelInput, model_input
from models.package import ModelPackage, OperatingPoint
from models.rejection import Rejection
from runners.decode import decode
from runners.decoded import Decoded, DecodeLimits, Header
from runners.gatekeeper import Gatekeeper
from runners.loaded import Answer, LoadedModel, open_packages
from runners.square_pixels import with_square_pixels
from skiagraph.settings import Settings


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """A radiograph ready for the graph.

    display: (h, w) uint8 at display contrast, halved as often as the settings of the heatmap ask; None where
    nothing is to be drawn.
    """

    model_input: ModelInput
    display: NDArray[np.uint8] | None
    source_width_px: int
    source_height_px: int
    header: Header | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """What the model says of one radiograph; anomaly_map: (h, w) float32 over the network's square."""

    prepared: Prepared
    finding: Finding
    operating_point: OperatingPoint
    anomaly_map: NDArray[np.float32]

    @property
    def display(self) -> NDArray[np.uint8]:
        """The radiograph to draw on; ValueError when it was prepared without."""
        if self.prepared.display is None:
            raise ValueError("the radiograph was prepared with drawn=False: there is nothing to draw on")
        return self.prepared.display

    def map_on_display(self) -> NDArray[np.float32]:
        """The anomaly map at the size of `display`."""
        height, width = self.display.shape
        return scaled(self.prepared.model_input.geometry, width, height).map_to_source(self.anomaly_map)


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """What of the settings decides how a radiograph is decoded and drawn; 0: whole."""

    limits: DecodeLimits
    decode_long_side_px: int
    display_long_side_px: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(
            limits=DecodeLimits(max_pixels=settings.service.max_pixels),
            decode_long_side_px=settings.service.decode_long_side_px,
            display_long_side_px=settings.report.heatmap_long_side_px,
        )


def prepare(
    data: bytes,
    *,
    package: ModelPackage,
    gatekeeper: Gatekeeper | None,
    options: PrepareOptions,
    drawn: bool = True,
) -> Prepared | Rejection:
    """Decode, ask the gate (None: do not), bring into the network's square; drawn: with a display."""
    decoded = decode(data, limits=options.limits, long_side_px=options.decode_long_side_px)
    if isinstance(decoded, Rejection):
        return decoded
    radiograph = with_square_pixels(
        decoded.radiograph, decoded.header.pixel_aspect if decoded.header else 1.0
    )
    if isinstance(radiograph, Rejection):
        return radiograph
    if gatekeeper is not None and (refused := gatekeeper.refuses(radiograph)) is not None:
        return refused
    manifest = package.manifest
    spec = GeometrySpec.from_manifest(manifest.geometry)
    shown = model_input(radiograph, input_px=manifest.input_px, spec=spec)
    if isinstance(shown, Rejection):
        return shown
    return Prepared(
        model_input=shown,
        display=_display(data, decoded, options) if drawn else None,
        source_width_px=radiograph.source_width_px,
        source_height_px=radiograph.source_height_px,
        header=decoded.header,
    )


def conclude(
    prepared: Prepared, answer: Answer, *, package: ModelPackage, operating_point: OperatingPoint
) -> Scored:
    """Read the graph's answer for one prepared radiograph."""
    finding = interpret(
        score=answer.score,
        novelty=answer.novelty,
        anomaly_map=answer.anomaly_map,
        geometry=prepared.model_input.geometry,
        manifest=package.manifest,
        operating_point=operating_point,
    )
    return Scored(
        prepared=prepared, finding=finding, operating_point=operating_point, anomaly_map=answer.anomaly_map
    )


class Analysis:
    """The straight line, opened: engine and gate of the default package of the settings.

    Raises RunnerFault when package or engine cannot be trusted, KeyError for an unknown operating point.
    """

    def __init__(self, settings: Settings, *, operating_point: str | None = None) -> None:
        self.package = next(iter(open_packages(settings.service).values()))
        self.operating_point = self.package.manifest.operating_point(operating_point)
        self._options = PrepareOptions.of(settings)
        self._gatekeeper = Gatekeeper(self.package)
        with ExitStack() as stack:
            self._model = stack.enter_context(LoadedModel(self.package, settings.service))
            self._stack = stack.pop_all()
        self.engine = self._model.report

    def prepare(self, data: bytes, *, gate: bool = True, drawn: bool = True) -> Prepared | Rejection:
        """The part that runs well in several threads at once."""
        gatekeeper = self._gatekeeper if gate else None
        return prepare(data, package=self.package, gatekeeper=gatekeeper, options=self._options, drawn=drawn)

    def score(self, batch: Sequence[Prepared]) -> list[Scored]:
        """The graph, once for the whole batch."""
        if not batch:
            return []
        answers = self._model.infer(np.stack([prepared.model_input.tensor for prepared in batch]))
        return [
            conclude(prepared, answer, package=self.package, operating_point=self.operating_point)
            for prepared, answer in zip(batch, answers, strict=True)
        ]

    def analyse(self, data: bytes, *, gate: bool = True, drawn: bool = True) -> Scored | Rejection:
        """One radiograph from bytes to finding; never raises for what the bytes are."""
        prepared = self.prepare(data, gate=gate, drawn=drawn)
        return prepared if isinstance(prepared, Rejection) else self.score([prepared])[0]

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def scaled(geometry: Geometry, width: int, height: int) -> Geometry:
    """The same geometry for the source drawn at another size."""
    return replace(
        geometry,
        source_width_px=width,
        source_height_px=height,
        scale_x=geometry.scale_x * geometry.source_width_px / width,
        scale_y=geometry.scale_y * geometry.source_height_px / height,
    )


def _display(data: bytes, decoded: Decoded, options: PrepareOptions) -> NDArray[np.uint8]:
    """The radiograph in 8 bits for the heatmap, halved until it fits; decoded again where it is too small."""
    radiograph = decoded.radiograph
    wanted = options.display_long_side_px
    source_side = max(radiograph.source_width_px, radiograph.source_height_px)
    halvings = 0
    while wanted and source_side > wanted << halvings:
        halvings += 1
    width = -(-radiograph.source_width_px >> halvings)
    if radiograph.pixels.shape[1] < width:
        again = decode(data, limits=options.limits, long_side_px=wanted or None)
        radiograph = again.radiograph if isinstance(again, Decoded) else radiograph
    pixels: NDArray[Any] = radiograph.pixels
    if pixels.shape[1] > width:
        height = -(-radiograph.source_height_px >> halvings)
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    return pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)
