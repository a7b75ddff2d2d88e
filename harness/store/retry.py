"""Calls of the store, tried again while it is busy, and their failures told in one error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from harness.core.errors import StoreError, StoreUnreachable
from harness.store.uris import redact

T = TypeVar("T")

PAUSES = (0.5, 2.0, 5.0)
"""Seconds between tries. SQLite itself waits 20 s for a lock at each try, so that a database
locked for a minute loses nothing."""

PATIENT_PAUSE = 2.0
"""Seconds between tries of a caller who has time."""

_COLLIDED = ("UNIQUE constraint failed", "duplicate key value")
"""SQLite's and PostgreSQL's words for a row that another writer put there a moment before."""

_PASSING = {"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}
_patience: ContextVar[Callable[[], bool]] = ContextVar("patience", default=lambda: False)


@contextmanager
def retry_while(waits: Callable[[], bool]) -> Iterator[None]:
    """In this block, in this thread, calls of a store that does not answer are tried again for as
    long as `waits()`."""
    token = _patience.set(waits)
    try:
        yield
    finally:
        _patience.reset(token)


def with_retries(what: str, action: Callable[[], T]) -> T:
    """`action()`, tried again while the store is busy or a file cannot be written.

    action: idempotent, as writes are that carry their own timestamps; where two write the same row
    first, as of a data set, the second finds it there when it tries again. what: completes the
    sentence "cannot …". Raises StoreUnreachable when it stays so, or StoreError at once for any
    other fault of the store.
    """
    from mlflow.exceptions import MlflowException

    pauses = iter(PAUSES)
    while True:
        try:
            return action()
        except (MlflowException, OSError) as error:
            told = f"cannot {what}: {describe_error(error)}"
            pause = next(pauses, None)
            collided = pause is not None and _has_collided(error)
            if not (collided or _is_passing(error)):
                raise StoreError(told) from None
            if pause is None and not _patience.get()():
                raise StoreUnreachable(told) from None
        time.sleep(PATIENT_PAUSE if pause is None else pause)


def _is_passing(error: Exception) -> bool:
    """Whether the same call may succeed later."""
    if isinstance(error, OSError):
        return True
    from requests.exceptions import InvalidURL, RequestException

    # MLflow wraps what a connection raises in an error like any other of its own.
    if isinstance(error.__context__, RequestException):
        return not isinstance(error.__context__, InvalidURL)
    return getattr(error, "error_code", "") in _PASSING


def _has_collided(error: Exception) -> bool:
    return any(words in str(error) for words in _COLLIDED)


def describe_error(error: Exception) -> str:
    """An exception's own words in one line, without secrets and without SQL."""
    text = redact(str(error) or type(error).__name__).replace("\n", " ")
    return text.split(" [SQL:")[0].strip()[:500]
