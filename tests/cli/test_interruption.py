from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import pytest

from cnnkit.cli.interruption import SIGNALS, InterruptedBySignal, exit_code, interruptible, interruption_of

# The parent process of the tests may have switched SIGINT or SIGHUP off, which a child would inherit.
CHILD = """
import os, signal, sys
from cnnkit.cli.interruption import SIGNALS, interruptible
for number in SIGNALS:
    signal.signal(number, signal.SIG_DFL)
first, second = int(sys.argv[1]), int(sys.argv[2])
with interruptible():
    try:
        os.kill(os.getpid(), first)
    except KeyboardInterrupt:
        print("saving", flush=True)
        os.kill(os.getpid(), second)
        print("waited", flush=True)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_interrupts_the_body_and_gives_its_exit_code(number, code):
    before = {each: signal.signal(each, signal.SIG_DFL) for each in SIGNALS}
    try:
        with pytest.raises(InterruptedBySignal) as stop, interruptible():
            os.kill(os.getpid(), number)
        assert exit_code(stop.value) == code
        assert all(signal.getsignal(each) == signal.SIG_DFL for each in SIGNALS), "the handlers are restored"
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_the_process_at_once(second):
    command = [sys.executable, "-c", CHILD, str(int(signal.SIGINT)), str(int(second))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (128 + second, "saving\n", "")


def test_a_signal_that_nohup_switched_off_stays_off():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_error_while_an_interruption_is_reported_leads_back_to_it():
    fault = OSError(errno.EIO, "Input/output error")
    assert interruption_of(fault) is None
    fault.__context__ = ValueError()
    fault.__context__.__context__ = stop = InterruptedBySignal(signal.SIGHUP)
    assert interruption_of(fault) is stop
