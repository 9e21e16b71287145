"""Ctrl-C at the worst moment: while the compiled part of a library sets itself up."""

from __future__ import annotations

import subprocess
import sys

import pytest

IN_THE_MIDDLE = """
import signal, sys, time
from fimi.testbed.commands.interrupts import harmless_interrupts, stop_on_signals

def in_the_middle(frame, event, called):
    spec = frame.f_locals.get("spec")
    if event == "WHEN" and frame.f_code.co_name == "WHERE" and "onnx_cpp2py" in spec.name:
        sys.setprofile(None)
        print("in the middle", flush=True)
        signal.raise_signal(signal.SIGINT)

with MANAGER as stop:
    if stop is not None:
        signal.raise_signal(signal.SIGINT)
        assert stop.is_set()
    try:
        sys.setprofile(in_the_middle)
        import onnx
        time.sleep(60)
    except KeyboardInterrupt:
        print("interrupted", "onnx.onnx_cpp2py_export" in sys.modules, flush=True)
"""


@pytest.mark.parametrize("manager", ["harmless_interrupts()", "stop_on_signals()"])
@pytest.mark.parametrize(
    ("when", "where"), [("call", "create_module"), ("return", "create_module")]
)
def test_what_is_loading_is_loaded_first(manager: str, when: str, where: str) -> None:
    code = IN_THE_MIDDLE.replace("MANAGER", manager).replace("WHEN", when).replace("WHERE", where)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "in the middle\ninterrupted True\n"), done.stderr


WHILE_IT_LOADS = """
import signal, sys

def at_module(event, arguments):
    if event == "import" and arguments[0] == sys.argv[-1]:
        signal.raise_signal(signal.SIGINT)

sys.addaudithook(at_module)
from fimi.testbed.entry import main
main()
"""


@pytest.mark.parametrize(
    "module", ["fimi.testbed.commands", "threading", "fimi.testbed.cli", "click"]
)
def test_a_command_that_is_stopped_while_it_loads_says_so(module: str) -> None:
    """From the first module on that it loads after its entry."""
    done = subprocess.run(
        [sys.executable, "-c", WHILE_IT_LOADS, "--help", module],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "fimi: stopped\n")
