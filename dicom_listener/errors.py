"""The errors of this room.

ListenerError
├── UnreadableInstanceError    the bytes received are no data set that we can file
├── UnfitRequestError         a Storage Commitment request or report that says nothing we can use
├── UnreachablePeerError       no address for the name of a peer, or none that can be reached
├── StartupError               the node cannot start: a port, a folder, a database
├── UnknownStudyError          no such study in the ledger
└── ImpossibleTransitionError  an event that a revision cannot meet in its state
"""


class ListenerError(Exception):
    """Root of everything the listener raises."""


class UnreadableInstanceError(ListenerError):
    """The bytes received are no data set that we can file; the text is the reason, free of PHI."""


class UnfitRequestError(ListenerError):
    """A Storage Commitment request or report that says nothing we can use; free of PHI."""


class UnreachablePeerError(ListenerError):
    """There is no address for the name of a peer, or none that can be reached."""


class StartupError(ListenerError):
    """The node cannot start; the text names the setting, the value and the fix."""


class UnknownStudyError(ListenerError):
    """No such study in the ledger."""


class ImpossibleTransitionError(ListenerError):
    """An event that a revision cannot meet in its state."""
