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
    """What the network is shown, (2, S, S) float32 grey and mask 0/1: where it is black, a bit for each cell.

    Most of a square is black, and the mask is bits: a fifth of the bytes or so.
    """

    def __init__(self, tensor: "FloatArray") -> None:
        import numpy as np  # here and not above: the supervisor imports this module too

        grey, mask = tensor
        lit = grey != 0
        self._side = len(grey)
        self._lit, self._mask = np.packbits(lit), np.packbits(mask > 0)
        self._grey = grey[lit]

    def unpack(self) -> "FloatArray":
        """Every value as it was."""
        import numpy as np

        lit, mask = (np.unpackbits(bits, count=self._side**2) for bits in (self._lit, self._mask))
        tensor = np.zeros((2, self._side**2), np.float32)
        tensor[0, lit.view(bool)] = self._grey
        tensor[1] = mask
        return tensor.reshape(2, self._side, self._side)
