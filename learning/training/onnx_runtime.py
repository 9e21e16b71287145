"""ONNX Runtime without its telemetry; all modules import it from here.

Some builds collect usage data, and leave a file in the folder for temporary files, unless this is
switched off before they are loaded. Import this module only where the library is needed: loading it
takes a moment.
"""

from __future__ import annotations

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

__all__ = ["onnxruntime"]
