"""What the runners raise.

RunnerError
└── RunnerFault   a damaged package, an engine that computes something else: not ready, no fallback

An input that cannot be analysed is never raised: it is a `models.rejection.Rejection`, a value.
"""


class RunnerError(Exception):
    """Base of what this room raises."""


class RunnerFault(RunnerError):
    """The text names what is broken and how to repair it."""
