"""ONNX Runtime without its telemetry; everybody imports it from here.

Some builds collect usage data unless they are told not to before they are loaded, and leave a file
in the folder for temporary files. Import this where the library is needed, not before: it takes a
moment to load.
"""

from __future__ import annotations

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

__all__ = ["onnxruntime"]
