"""Training the gate: drawings and pictures follow from the seed, a continued run gives the same weights."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.train import gate as training
from models.train.errors import DataError
from models.train.gate_augment import SHARES, training_picture
from models.train.gate_data import GateSample, Kind, LabelledFile, labelled_files
from models.train.gate_draw import BODY_PARTS, NOT_RADIOGRAPHS
from models.train.gate_evaluate import rate


def samples() -> list[GateSample]:
    """A few arithmetic pictures of each class."""
    ys, xs = np.mgrid[0:200, 0:160] / np.float32(200)
    found = []
    for kind in Kind:
        for number in range(3):
            picture = 0.5 + 0.4 * np.sin((kind + 2) * 9 * xs + number) * np.cos(11 * ys)
            file = LabelledFile(path=Path(f"{kind.name}{number}.png"), kind=kind, region="hand")
            found.append(GateSample(file=file, picture=picture.astype(np.float32)))
    return found


@pytest.mark.parametrize("draw", [*NOT_RADIOGRAPHS, *BODY_PARTS], ids=lambda draw: draw.__name__)
def test_drawings_follow_from_the_seed(draw) -> None:  # type: ignore[no-untyped-def]
    one, again, other = (draw(np.random.default_rng(seed), 120, 90) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert one.shape != other.shape or not np.array_equal(one, other)
    assert np.isfinite(one).all()


def test_every_class_is_shown_about_as_often_as_planned() -> None:
    by_kind = {kind: [one for one in samples() if one.kind is kind] for kind in Kind}
    rng = np.random.default_rng(0)
    kinds = [training_picture(rng, by_kind)[1] for _ in range(400)]
    shares = {kind: kinds.count(kind) / len(kinds) for kind in Kind}
    # Some of the drawings count as other body parts.
    assert shares[Kind.HAND] == pytest.approx(SHARES[Kind.HAND], abs=0.07)
    assert all(share > 0.04 for share in shares.values())


def test_a_continued_run_gives_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_PICTURES", 64)
    whole = training.fit(samples(), tmp_path / "whole.pt", seed=3, epochs=2)

    save = torch.save

    def save_and_stop(state: object, path: Path) -> None:
        save(state, path)
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        training.fit(samples(), tmp_path / "parts.pt", seed=3, epochs=2)
    monkeypatch.setattr(torch, "save", save)
    continued = training.fit(samples(), tmp_path / "parts.pt", seed=3, epochs=2)
    for one, other in zip(whole.state_dict().values(), continued.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_a_folder_without_its_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labels\.csv does not exist"):
        labelled_files(tmp_path, "train")


def test_validation_and_its_neighbours_are_not_trained_on(shared_data: Path) -> None:
    folder = shared_data / "fracatlas"
    train, val = (labelled_files(folder, split) for split in ("train", "val"))
    assert not {file.path.name for file in train} & {file.path.name for file in val}
    number = {int(file.path.stem[3:]) for file in val if file.region != "hand"}
    extra = {int(file.path.stem[3:]) for file in train if file.path.parent.name == "pretrain"}
    assert extra
    assert not {one + step for one in number for step in (-2, -1, 0, 1, 2)} & extra


def test_a_rate_has_its_wilson_interval() -> None:
    found = rate(98, 100)
    assert found["rate"] == 0.98
    assert found["low"] == pytest.approx(0.930, abs=0.001)
    assert found["high"] == pytest.approx(0.994, abs=0.001)
