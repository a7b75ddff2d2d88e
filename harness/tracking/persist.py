"""Calls of the store, tried again while it is busy, and their failures told in one error."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from harness.errors import StoreError
from harness.tracking.uris import redact

T = TypeVar("T")

PAUSES = (0.5, 2.0, 5.0)
"""Seconds between tries. SQLite itself waits 20 s for a lock at each try, so that a database
locked for a minute loses nothing."""

_PASSING = {"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}


def persist(what: str, action: Callable[[], T]) -> T:
    """`action()`, tried again while the store is busy or a file cannot be written.

    action: idempotent, as writes are that carry their own timestamps. what: completes the sentence
    "cannot …". Raises StoreError when it stays so, or at once for any other fault of the store.
    """
    from mlflow.exceptions import MlflowException

    for pause in (*PAUSES, None):
        try:
            return action()
        except (MlflowException, OSError) as error:
            passing = isinstance(error, OSError) or error.error_code in _PASSING
            if pause is None or not passing:
                raise StoreError(f"cannot {what}: {reason(error)}") from None
        time.sleep(pause)
    raise AssertionError("the last try returns or raises")


def reason(error: Exception) -> str:
    """An exception's own words in one line, without secrets and without SQL."""
    text = redact(str(error) or type(error).__name__).replace("\n", " ")
    return text.split(" [SQL:")[0].strip()[:500]
