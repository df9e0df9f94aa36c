"""For every test: no example of Hypothesis fails for the time it takes, for a machine may be busy for a moment; and
Ctrl-C reaches what a test starts, also where the tests themselves run in a background that ignores it. Schemas that
were read are kept for this run alone."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from coordinator.store.place import Place, PostgresPlace
from tests.postgres import Cluster, running_cluster

settings.register_profile("edgewright", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("edgewright")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Nothing of the user's own cache is read, nor anything left in it. Processes that tests start share it."""
    if "EDGEWRIGHT_CACHE" not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="edgewright-tests-")
        os.environ["EDGEWRIGHT_CACHE"] = folder.name
        config.add_cleanup(folder.cleanup)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A PostgreSQL of our own; the test is skipped where there is none."""
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def postgres_template(postgres: Cluster) -> str:
    """The name of a database with the tables of a store, and nothing in them."""
    from coordinator.store.postgres_schema import POSTGRES_MIGRATIONS
    from runtime.postgres import connect
    from runtime.postgres_writer import migrate

    name = "empty_store"
    postgres.sql(f"CREATE DATABASE {name} TEMPLATE template0")
    db = connect(postgres.dsn(name), name="tests")
    migrate(db, POSTGRES_MIGRATIONS)
    db.close()
    return name


@pytest.fixture
def postgres_place(postgres: Cluster, postgres_template: str) -> Iterator[PostgresPlace]:
    """An empty store in a database of its own."""
    with postgres.database(postgres_template) as dsn:
        yield PostgresPlace(dsn)


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where a store may be: the test runs with each of them."""
    if request.param == "sqlite":
        return tmp_path
    found: Place = request.getfixturevalue("postgres_place")
    return found
