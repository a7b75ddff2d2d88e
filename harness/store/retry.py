"""Repeats calls of the store while it is busy, and turns its exceptions into StoreError."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

from harness.core.errors import StoreError, StoreUnreachable
from harness.store.uris import redact

P = ParamSpec("P")
T = TypeVar("T")

PAUSES = (0.5, 2.0, 5.0)
"""Seconds between tries. SQLite itself waits 20 s for a lock at each try, so that a database that
is locked for a minute loses nothing."""

PATIENT_PAUSE = 2.0
"""Seconds between further tries within `retry_while`."""

_COLLISIONS = (
    "UNIQUE constraint failed",
    "duplicate key value",
    "Duplicate entry",
    "Violation of PRIMARY KEY",
)
"""Messages of SQLite, PostgreSQL, MySQL and SQL Server about a row that another process has just
written."""

_TEMPORARY = {"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}
_keep_trying: ContextVar[Callable[[], bool]] = ContextVar("keep_trying", default=lambda: False)


@contextmanager
def retry_while(condition: Callable[[], bool]) -> Iterator[None]:
    """Within this context and thread, `with_retries` repeats its call of a store that does not
    answer for as long as `condition()` holds."""
    token = _keep_trying.set(condition)
    try:
        yield
    finally:
        _keep_trying.reset(token)


def with_retries(purpose: str, action: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """Returns `action(*args, **options)`, repeated while the store is busy or a file cannot be
    written.

    purpose: completes the sentence "cannot …".
    action: must be idempotent, as writes with their own timestamps are. If two processes insert the
    same row at once, such as a data set, the later one finds it when it tries again.
    Raises StoreUnreachable if the store stays busy, StoreError at once for any other fault.
    """
    from mlflow.exceptions import MlflowException

    pauses = iter(PAUSES)
    while True:
        try:
            return action(*args, **options)
        except (MlflowException, OSError) as error:
            message = f"cannot {purpose}: {describe_error(error)}"
            pause = next(pauses, None)
            collided = pause is not None and any(text in str(error) for text in _COLLISIONS)
            if not (collided or _is_temporary(error)):
                raise StoreError(message) from None
            if pause is None and not _keep_trying.get()():
                raise StoreUnreachable(message) from None
        time.sleep(PATIENT_PAUSE if pause is None else pause)


def describe_error(error: Exception) -> str:
    """Returns an exception's message in one line, without secrets and without SQL."""
    text = redact(str(error) or type(error).__name__).replace("\n", " ")
    return text.split(" [SQL:")[0].strip()[:500]


def _is_temporary(error: Exception) -> bool:
    """Returns whether the same call may succeed later."""
    if isinstance(error, OSError):
        return True
    from requests.exceptions import InvalidURL, RequestException

    # MLflow wraps the errors of a connection in its general error type.
    if isinstance(error.__context__, RequestException):
        return not isinstance(error.__context__, InvalidURL)
    return getattr(error, "error_code", "") in _TEMPORARY
