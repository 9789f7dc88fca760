"""What is said while a run goes on, and how signals wait."""

import io
import os
import signal
import threading

import pytest
from rich.console import Console

from scratchgen.train import progress
from scratchgen.train.progress import Bar
from scratchgen.train.signals import Interrupted, StopSignals


class Clock:
    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


def lines(total: int, seconds_per_step: float, clock: Clock, start: int = 0) -> list[str]:
    out = io.StringIO()
    with Bar("toy", total, start, console=Console(file=out, width=200)) as bar:
        for step in range(start + 1, total + 1):
            clock.now += seconds_per_step
            bar.update(step, lambda step=step: f"loss {1 / step:.3f}")
    return out.getvalue().splitlines()


def test_a_quick_run_says_one_line(monkeypatch):
    assert lines(50, 0.01, Clock(monkeypatch)) == ["toy: step 50/50, loss 0.020, 100.0 steps/s, 0 s left"]


def test_a_run_of_minutes_says_a_line_each_tenth(monkeypatch):
    said = lines(100, 1.0, Clock(monkeypatch))
    assert len(said) == 10
    assert said[2] == "toy: step 30/100, loss 0.033, 1.0 steps/s, 70 s left"


def test_a_slow_run_says_a_line_a_minute(monkeypatch):
    assert len(lines(100, 20.0, Clock(monkeypatch))) == 34


def test_a_continued_run_counts_its_own_steps_for_the_rate(monkeypatch):
    assert lines(50, 0.1, Clock(monkeypatch), start=40)[-1].endswith("10.0 steps/s, 0 s left")


def test_a_bar_on_a_terminal_shows_loss_rate_and_time_left(monkeypatch):
    clock = Clock(monkeypatch)
    out = io.StringIO()
    asked = []
    with Bar("toy", 100, console=Console(file=out, force_terminal=True, width=120, color_system=None)) as bar:
        for step in range(1, 51):
            clock.now += 0.01
            bar.update(step, lambda step=step: asked.append(step) or f"loss {step}")
        half = out.getvalue()
    assert asked == [20, 40]  # reading the loss may wait for a GPU
    assert all(part in half for part in ("toy", "40/100", "loss 40", "100.0 steps/s", "0:00"))


def test_silence(monkeypatch, capsys):
    clock = Clock(monkeypatch)
    with Bar("toy", 2, silent=True) as bar:
        for step in (1, 2):
            clock.now += 1000
            bar.update(step, lambda: pytest.fail("nobody should ask"))
    assert capsys.readouterr() == ("", "")


def test_standard_output_stays_clean(capsys):
    with Bar("toy", 1) as bar:
        bar.update(1, lambda: "loss 0")
    out, err = capsys.readouterr()
    assert out == ""
    assert "toy" in err


# --- signals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_noted_and_the_handlers_come_back(number, code):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    def interrupted_run():
        with StopSignals() as stop:
            assert stop.received is None
            os.kill(os.getpid(), number)
            assert stop.received == number
            os.kill(os.getpid(), signal.SIGINT)  # a second one changes nothing
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.received == number
            raise Interrupted(stop.code, 7)

    with pytest.raises(Interrupted) as caught:
        interrupted_run()
    assert (caught.value.code, caught.value.step) == (code, 7)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_signal_nobody_acted_on_is_delivered_afterwards():
    with pytest.raises(KeyboardInterrupt), StopSignals():
        os.kill(os.getpid(), signal.SIGINT)


def test_an_error_inside_is_the_one_that_comes_out():

    def failing_run():
        with StopSignals():
            os.kill(os.getpid(), signal.SIGINT)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing_run()


def test_an_ignored_signal_stays_ignored():
    old = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopSignals() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.received is None
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, old)


def test_other_threads_may_train_too():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def run():
        with StopSignals() as stop:
            seen.append((stop.received, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [(None, before)]
