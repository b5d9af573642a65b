"""No query that runs for every instance, tick, scrape or listing looks at every row of the ledger."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event

from bench.ledger import fill
from dicom_listener.ledger import arrivals, inbox, journal, outbox, overview, revisions
from dicom_listener.ledger.connection import Database

HOUR = timedelta(hours=1).total_seconds()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'ledger.sqlite'}")
    fill(opened, 300)
    yield opened
    opened.close()


QUERIES: dict[str, Callable[[Connection], object]] = {
    "reception": lambda connection: arrivals.newest(connection, "1.2.826.0.1.7", "1.2.826.0.1.7.0.1"),
    "start-up": arrivals.open_studies,
    "assembly": lambda connection: arrivals.instances_of(connection, "1.2.826.0.1.7"),
    "requests": inbox.waiting,
    "scrape": lambda connection: overview.backlog(connection, ["pacs"]),
    "list": overview.summaries,
    "list receiving": lambda connection: overview.summaries(connection, state="receiving"),
    "list delivered": lambda connection: overview.summaries(connection, state="delivered"),
    "list dead letters": lambda connection: overview.summaries(connection, state="dead_letter"),
    "show": lambda connection: overview.history(connection, "1.2.826.0.1.7"),
    "due": lambda connection: revisions.due(connection, at=journal.now(), longest_seconds=HOUR, most=10),
    "outbox": lambda connection: outbox.due_deliveries(
        connection, "pacs", at=journal.now(), longest_seconds=HOUR, most=10
    ),
}


@pytest.mark.parametrize("name", QUERIES)
def test_query_goes_by_an_index(database: Database, name: str) -> None:
    plans: list[str] = []

    def explain(_connection: Any, cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
        if statement.startswith("SELECT"):
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(f"{line[3]} of {statement}" for line in cursor.fetchall())

    event.listen(database.engine, "before_cursor_execute", explain)
    try:
        with database.read() as connection:
            QUERIES[name](connection)
    finally:
        event.remove(database.engine, "before_cursor_execute", explain)
    assert plans
    assert not [plan for plan in plans if plan.startswith("SCAN") and " INDEX " not in plan.split(" of ")[0]]
    if name.startswith("list"):  # the latest hundred are read, not picked out of all that were sorted
        assert not [plan for plan in plans if "TEMP B-TREE" in plan.split(" of ")[0]]
    if name == "list receiving":  # the few that are open, not the latest of all until some of them are open
        assert [plan for plan in plans if "ix_studies_open" in plan.split(" of ")[0]]
