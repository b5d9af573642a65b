"""Errors of training.

TrainError
├── DataError: the training data cannot be used as it is
└── RunError: a training run cannot be continued or exported
"""


class TrainError(Exception):
    """Something the user of the training commands can fix; the text says how."""


class DataError(TrainError):
    """The training data cannot be used as it is."""


class RunError(TrainError):
    """A training run cannot be continued or exported."""
