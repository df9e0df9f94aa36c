"""Many rows by few statements, in both databases."""

import pytest

from coordinator.store.place import Place, open_store
from runtime.database import Database, execute_rows, upsert_rows

INSERT = upsert_rows("meta", ("key",), ("value",))
LONGER = """
UPDATE meta SET value = longer.column2 FROM (VALUES {rows}) AS longer WHERE meta.key = longer.column1
"""


def kept(db: Database) -> dict[str, str]:
    return dict(db.execute("SELECT key, value FROM meta WHERE key LIKE 'test-%'"))


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 99, 100, 101, 237])
def test_each_row_is_written_once_and_the_later_one_stands(place: Place, count: int) -> None:
    store = open_store(place)
    rows = [(f"test-{n}", str(n)) for n in range(count)]

    def job(db: Database) -> tuple[dict[str, str], ...]:
        execute_rows(db, INSERT, rows)
        first = kept(db)
        execute_rows(db, INSERT, [*rows, *((key, value + "a") for key, value in rows)])
        second = kept(db)
        execute_rows(
            db, LONGER, [(key, f"{n}b") for n, (key, _) in enumerate(rows)], "(CAST(? AS TEXT), CAST(? AS TEXT))"
        )
        return first, second, kept(db)

    try:
        first, second, third = store.run_now(job)
    finally:
        store.close()
    assert first == dict(rows)
    assert second == {key: value + "a" for key, value in rows}
    assert third == {key: value + "b" for key, value in rows}
