"""Ctrl-C ends a command once: the processes that work for it do not hear of it."""

import signal
import subprocess
import sys

import pytest

from likely.core.runtime import children_ignore_interrupts

CHILD = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # as a job in the background has it not
print(flush=True)
input()
print("done")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there Ctrl-C is no signal")
def test_an_interrupt_reaches_no_process_that_was_started_inside():
    with children_ignore_interrupts():
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.communicate("\n", timeout=60)[0] == "done\n"
