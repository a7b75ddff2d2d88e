"""What is tried again, and what is told at once."""

from __future__ import annotations

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, TEMPORARILY_UNAVAILABLE

from harness.core.errors import StoreError, StoreUnreachable
from harness.store import retry as module
from harness.store.retry import with_retries

TWICE = MlflowException(
    "(psycopg2.errors.UniqueViolation) duplicate key value violates unique constraint", BAD_REQUEST
)
TWICE_IN_A_FILE = MlflowException(
    "(sqlite3.IntegrityError) UNIQUE constraint failed: datasets.name", BAD_REQUEST
)
BUSY = MlflowException("database is locked", TEMPORARILY_UNAVAILABLE)
WRONG = MlflowException("no such run", BAD_REQUEST)


class Store:
    """Raises what it is given, one call after another, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def write(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "written"


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSES", (0.0, 0.0, 0.0))


@pytest.mark.parametrize("passing", [TWICE, TWICE_IN_A_FILE, BUSY], ids=["key", "file", "busy"])
def test_temporary_errors_are_retried(passing: Exception) -> None:
    store = Store(passing, passing)
    assert with_retries("write", store.write) == "written"
    assert store.calls == 3


def test_a_lasting_collision_is_an_error_within_retry_while() -> None:
    store = Store(*[TWICE] * 9)
    with module.retry_while(lambda: True), pytest.raises(StoreError, match="duplicate key"):
        with_retries("write", store.write)
    assert store.calls == 4


def test_a_store_that_stays_busy_is_unreachable() -> None:
    with pytest.raises(StoreUnreachable, match="database is locked"):
        with_retries("write", Store(*[BUSY] * 9).write)


def test_other_errors_are_raised_at_once() -> None:
    store = Store(WRONG)
    with pytest.raises(StoreError, match="no such run"):
        with_retries("write", store.write)
    assert store.calls == 1
