"""Python's collector of cyclic garbage, while very many small objects come and go."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

RARELY = (50_000, 20, 20)
"""Objects, and younger collections, between two collections: Python's own are 700, 10 and 10."""


@contextmanager
def seldom() -> Iterator[None]:
    """In this block cycles are looked for seldom, and not among what was there before it.

    Records and rows of a sweep are in no cycle, and come by the hundred thousand; MLflow's import
    leaves half a million objects that would be looked through again and again meanwhile. Not for a
    process that trains: a cycle may hold a device's memory.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*RARELY)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
