"""Logs: lines for people and for programs, neither with what a program holds in its variables."""

import logging
from collections.abc import Iterator

import pytest
import structlog

from skiagraph import log


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize("json", [True, False])
@pytest.mark.parametrize("ours", [True, False])
def test_a_traceback_shows_no_variables(json: bool, ours: bool, capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(json=json)
    name = "^".join(("ROENTGEN", "WILHELM"))
    try:
        raise ValueError("of this test" if name else name)
    except ValueError:
        if ours:
            log.get("test").exception("it failed")
        else:
            logging.getLogger("test").exception("it failed")
    said = capsys.readouterr().err
    assert "ValueError: of this test" in said
    assert "ROENTGEN^WILHELM" not in said
