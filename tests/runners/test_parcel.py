"""What travels between the processes arrives as it was."""

import pickle

import numpy as np

from runners.parcel import PackedTensor


def test_a_tensor_arrives_to_the_last_bit_in_a_fraction_of_the_bytes() -> None:
    dice = np.random.default_rng(5)
    tensor = dice.random((2, 96, 96), np.float32)
    tensor[1] = tensor[1] > 0.5
    tensor[0, 3, 3] = np.float32(1e-42)
    tensor[:, 24:] = 0  # three quarters are black
    tensor[1, 90:] = 1  # and some of that is shown
    sent = pickle.dumps(PackedTensor(tensor), protocol=5)
    arrived = pickle.loads(sent).unpack()  # noqa: S301  our own
    assert arrived.dtype == np.float32
    assert np.array_equal(arrived, tensor)
    assert len(sent) < 0.17 * tensor.nbytes
