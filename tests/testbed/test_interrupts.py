"""Ctrl-C at the worst moment: while the compiled part of a library sets itself up."""

from __future__ import annotations

import subprocess
import sys

import pytest

IN_THE_MIDDLE = """
import signal, sys, time
from importlib.machinery import ExtensionFileLoader
from fimi.testbed.commands.interrupts import harmless_interrupts, stop_on_signals

def in_the_middle(frame, event, called):
    loader = frame.f_back and frame.f_back.f_locals.get("self")
    if event == "c_call" and isinstance(loader, ExtensionFileLoader):
        if "onnx_cpp2py_export" in loader.name:
            sys.setprofile(None)
            print("in the middle of", called.__name__, flush=True)
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


SAID = "in the middle of create_dynamic\ninterrupted True\n"


@pytest.mark.parametrize("manager", ["harmless_interrupts()", "stop_on_signals()"])
def test_what_is_loading_is_loaded_first(manager: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_THE_MIDDLE.replace("MANAGER", manager)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, SAID), done.stderr
