"""How a score is made of cells and look-alikes."""

import torch

from models.train.atlas import neighbours, voices
from models.train.graph import Evidence, score_of


def seen(scored: torch.Tensor) -> Evidence:
    return Evidence(logit=torch.zeros_like(scored), shown=scored, scored=scored, thumb=torch.zeros(1, 512))


def test_a_look_alike_that_is_about_to_drop_out_says_nothing() -> None:
    said = voices(torch.tensor([[1.0, 2.0, 5.0, 9.0]])).flatten().tolist()
    assert said[-1] == 0
    assert said == sorted(said, reverse=True)
    assert abs(sum(said) - 12) < 1e-5


def test_look_alikes_that_are_all_equally_far_are_no_division_by_zero() -> None:
    assert torch.isfinite(voices(torch.full((2, 5), 3.0))).all()


def test_the_score_is_the_mean_of_the_32_most_unusual_cells_that_count() -> None:
    z = torch.full((1, 16, 16), -1.0)
    z[0, 0] = 100.0  # near the skin: does not count
    z[0, 5, :8], z[0, 9, :16] = 4.0, 2.0
    counts = torch.ones(1, 16, 16)
    counts[0, 0] = 0
    assert score_of(z, seen(counts)).tolist() == [(8 * 4.0 + 16 * 2.0) / 32]


def test_look_alikes_are_of_other_groups_and_never_too_many() -> None:
    thumbnails = torch.rand(5, 512, generator=torch.Generator().manual_seed(1))
    distances, chosen = neighbours(thumbnails, ["a", "a", "b", "c", "c"])
    assert chosen.shape == (5, 3)
    assert torch.isfinite(distances).all()
    assert not {0, 1} & set(chosen[0].tolist())
