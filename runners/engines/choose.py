"""Which engine runs, and why: a pure decision."""

from dataclasses import dataclass
from enum import StrEnum


class EngineKind(StrEnum):
    TENSORRT = "tensorrt"
    CPU = "cpu"


class EngineWish(StrEnum):
    """The setting `service.engine`."""

    AUTO = "auto"
    TENSORRT = "tensorrt"
    CPU = "cpu"


@dataclass(frozen=True, kw_only=True)
class EngineChoice:
    """reason: a sentence for `/readyz` and `skiagraph check`. fallback: what was wanted is not what runs."""

    kind: EngineKind
    reason: str
    fallback: bool = False


def choose(wish: EngineWish, *, why_no_gpu: str | None) -> EngineChoice:
    """why_no_gpu: what keeps TensorRT from running on this machine; None when nothing does."""
    if wish is EngineWish.CPU:
        return EngineChoice(kind=EngineKind.CPU, reason="the setting service.engine asks for the CPU")
    if why_no_gpu is None:
        return EngineChoice(kind=EngineKind.TENSORRT, reason="a GPU and TensorRT are here")
    if wish is EngineWish.TENSORRT:
        return EngineChoice(
            kind=EngineKind.CPU,
            reason=f"the setting service.engine asks for TensorRT, but {why_no_gpu}",
            fallback=True,
        )
    return EngineChoice(kind=EngineKind.CPU, reason=f"no TensorRT here: {why_no_gpu}")


def fall_back(why: str) -> EngineChoice:
    """The CPU takes over from a TensorRT that was chosen and then failed."""
    return EngineChoice(kind=EngineKind.CPU, reason=f"TensorRT was refused: {why}", fallback=True)
