"""What ends a command early.

CommandError
├── UsageError    the command line or the settings cannot be used: exit code 2
└── FailedError   something was tried and failed: exit code 1
"""

from typing import ClassVar


class CommandError(Exception):
    """Text for people: one line that says how to fix it."""

    exit_code: ClassVar[int] = 1


class UsageError(CommandError):
    exit_code: ClassVar[int] = 2


class FailedError(CommandError):
    exit_code: ClassVar[int] = 1
