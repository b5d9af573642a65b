"""Models are trained by name."""

from pathlib import Path

import pytest

from models.train import commands
from models.train.errors import TrainError, UnknownModelError
from models.train.families import FAMILIES, family
from models.train.paper.systems import SYSTEMS


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownModelError, match="synthetic-defects"):
        family("nonesuch")


def test_each_family_is_found_by_its_name() -> None:
    assert [family(name).name for name in FAMILIES] == list(FAMILIES)


def test_the_papers_systems_have_a_published_size_and_the_default_has_none() -> None:
    for name, model in FAMILIES.items():
        published = model.published
        assert (published is None) == (name not in SYSTEMS)
        if published is not None:
            assert (published.name, published.published) == (name, None)
            assert published.steps == SYSTEMS[name].published.steps > model.steps
    with pytest.raises(TrainError, match="--published"):
        commands.train(
            "synthetic-defects",
            data=Path(),
            out=Path(),
            steps=1,
            seed=0,
            resume=False,
            published=True,
        )
