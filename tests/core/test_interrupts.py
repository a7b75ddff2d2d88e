"""Signals that this process sends to itself, at moments that are hard to hit by chance."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from harness.core.process import Interrupted, Interrupts, Stopped


class Finalised:
    """Sends a signal while Python finalises it: what the handler raises there is dropped."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):  # The handler runs between two instructions.
            pass


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    with Interrupts() as entered:
        yield entered


def test_a_signal_raises_at_once(interrupts: Interrupts) -> None:
    with pytest.raises(Interrupted, match="SIGTERM"):
        os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted):
        interrupts.check()


def test_no_signal_raises_nothing(interrupts: Interrupts) -> None:
    with interrupts.deferred():
        pass
    interrupts.check()


def test_a_deferred_block_is_not_interrupted(interrupts: Interrupts) -> None:
    done = []

    def work() -> None:
        with interrupts.deferred():
            with interrupts.deferred():
                os.kill(os.getpid(), signal.SIGINT)
                done.append("inner")
            done.append("outer")

    with pytest.raises(Interrupted):
        work()
    assert done == ["inner", "outer"]


def test_a_signal_that_a_finaliser_drops_is_raised_at_the_next_check(
    interrupts: Interrupts, capsys: pytest.CaptureFixture[str]
) -> None:
    finalised = Finalised()
    del finalised
    with pytest.raises(Interrupted, match="SIGINT"):
        interrupts.check()
    assert capsys.readouterr().err == ""


def test_handlers_and_hooks_are_restored() -> None:
    import sys

    before = signal.getsignal(signal.SIGINT), sys.unraisablehook
    with Interrupts():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), sys.unraisablehook) == before


def test_a_process_that_stops_itself_ends_the_deferred_block_first(interrupts: Interrupts) -> None:
    done = []

    def work() -> None:
        with interrupts.deferred():
            interrupts.stop("the first failure")
            interrupts.stop("a second reason")
            done.append("block")
        done.append("never")

    with pytest.raises(Stopped, match="the first failure"):
        work()
    assert done == ["block"]
    os.kill(os.getpid(), signal.SIGINT)  # One Ctrl-C does not cut what is written at the end.
    with pytest.raises(Stopped):
        interrupts.check()


def test_a_second_signal_does_not_end_a_process_of_others() -> None:
    """A notebook's kernel would lose all that its user has in it."""
    with Interrupts(owns_process=False) as interrupts:
        for name in ("SIGINT", "SIGTERM"):
            with pytest.raises(Interrupted, match=name):
                os.kill(os.getpid(), signal.Signals[name])
        with pytest.raises(Interrupted):
            interrupts.check()


def test_another_thread_than_the_main_one_handles_no_signals() -> None:
    def work() -> None:
        with Interrupts() as interrupts, interrupts.deferred():
            interrupts.check()
        done.append(signal.getsignal(signal.SIGINT))

    done: list[object] = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [signal.getsignal(signal.SIGINT)]


def test_a_notebook_shows_one_line_of_an_interruption() -> None:
    assert Interrupted("SIGINT")._render_traceback_() == [
        "interrupted (SIGINT): run the same again to continue"
    ]
