"""Models are trained by name."""

import pytest

from models.train.errors import UnknownModelError
from models.train.families import FAMILIES, family


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownModelError, match="synthetic-defects"):
        family("nonesuch")


def test_each_family_is_found_by_its_name() -> None:
    assert [family(name).name for name in FAMILIES] == list(FAMILIES)
