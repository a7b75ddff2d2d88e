"""Errors as a user of Python sees them: the message, without the harness's own frames."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from harness.core.errors import HarnessError

P = ParamSpec("P")
T = TypeVar("T")


def told_plainly(function: Callable[P, T]) -> Callable[P, T]:
    """Decorates a function of the API: its errors for users end their traceback where the user
    called it."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except HarnessError as error:
            raise error.with_traceback(None) from None

    return call
