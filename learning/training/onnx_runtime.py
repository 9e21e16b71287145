"""ONNX Runtime without its telemetry; all modules import it from here.

Some builds collect usage data, and leave a file in the folder for temporary files, unless this is
switched off before they are loaded. Import this module only where the library is needed: loading it
takes a moment.
"""

from __future__ import annotations

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

__all__ = ["onnxruntime", "session_of"]


def session_of(model: bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """A session that runs a model on the CPU, with so many threads within an operator.

    Raises:
        Exception: the model cannot be loaded; ONNX Runtime's errors have no common base.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
