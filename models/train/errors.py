"""Errors of training.

TrainError
├── UnknownModelError: no model is called so
├── DataError: the training data cannot be used as it is
└── RunError: a training run cannot be continued or exported
"""


class TrainError(Exception):
    """Something the user of the training commands can fix; the text says how."""


class UnknownModelError(TrainError):
    """No model is called so."""


class DataError(TrainError):
    """The training data cannot be used as it is."""


class RunError(TrainError):
    """A training run cannot be continued or exported."""
