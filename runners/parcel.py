"""A value on its way between the processes of one service."""

from typing import Generic, TypeVar

_Content = TypeVar("_Content")


class Parcel(Generic[_Content]):
    """Carries a record as it is: BentoML would unfold a dataclass, and all in it, into dictionaries."""

    def __init__(self, content: _Content) -> None:
        self.content = content
