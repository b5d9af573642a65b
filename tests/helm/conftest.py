"""The chart, loaded once."""

from collections.abc import Iterator

import pytest
from helm_python import Chart

from tests.helm.chart import CHART, Renderer


@pytest.fixture(scope="session")
def renderer() -> Iterator[Renderer]:
    with Chart.load(CHART) as chart:
        yield Renderer(chart)
