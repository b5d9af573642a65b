"""Values on their way between the processes of one service."""

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from runners.engines.base import FloatArray

_Content = TypeVar("_Content")


class Parcel(Generic[_Content]):
    """Carries a record as it is: BentoML would unfold a dataclass, and all in it, into dictionaries."""

    def __init__(self, content: _Content) -> None:
        self.content = content


class PackedTensor:
    """What the network is shown, (2, S, S) float32 grey and mask 0/1: the mask in bits, half of the bytes."""

    def __init__(self, tensor: "FloatArray") -> None:
        import numpy as np  # here and not above: the supervisor imports this module too

        self._grey = tensor[0]
        self._mask = np.packbits(tensor[1] > 0)

    def unpack(self) -> "FloatArray":
        """Every value as it was."""
        import numpy as np

        mask = np.unpackbits(self._mask, count=self._grey.size).reshape(self._grey.shape)
        return np.stack([self._grey, mask.astype(np.float32)])
