from __future__ import annotations

import signal
import threading

import pytest

from deja_vu.training.interrupt import interrupts_wait


def test_ctrl_c_takes_effect_at_the_end_of_the_block() -> None:
    done = []

    def work() -> None:
        with interrupts_wait():
            signal.raise_signal(signal.SIGINT)
            done.append("first half")
            done.append("second half")
        done.append("what follows")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["first half", "second half"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_ctrl_c_nothing_happens() -> None:
    with interrupts_wait():
        pass
    with pytest.raises(ValueError, match="of its own"), interrupts_wait():
        raise ValueError("of its own")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_pass_through() -> None:
    done = []

    def work() -> None:
        with interrupts_wait():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]
