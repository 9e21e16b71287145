"""Counts what is written below a folder, by the kernel's own events of files (inotify)."""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from collections import Counter
from pathlib import Path

MODIFIED, MOVED_TO, CREATED, DELETED, IS_FOLDER = 0x2, 0x80, 0x100, 0x200, 0x40000000


class Watch:
    """Counts what is written below a folder, folders that come later included."""

    def __init__(self, folder: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._handle = self._libc.inotify_init1(os.O_CLOEXEC)
        assert self._handle >= 0
        self._folders: dict[int, Path] = {}
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._add(folder)
        threading.Thread(target=self._read, daemon=True).start()

    def _add(self, folder: Path) -> None:
        mask = MODIFIED | MOVED_TO | CREATED | DELETED
        number = self._libc.inotify_add_watch(self._handle, os.fsencode(folder), mask)
        assert number >= 0, os.strerror(ctypes.get_errno())
        self._folders[number] = folder
        for each in folder.iterdir():
            if each.is_dir():
                self._add(each)

    def _read(self) -> None:
        while data := os.read(self._handle, 65536):
            at = 0
            while at < len(data):
                number, mask, _, length = struct.unpack_from("iIII", data, at)
                name = data[at + 16 : at + 16 + length].rstrip(b"\0").decode()
                at += 16 + length
                path = self._folders[number] / name
                with self._lock:
                    self._counts[str(path)] += 1
                if mask & IS_FOLDER and mask & (CREATED | MOVED_TO):
                    self._add(path)

    def take(self) -> Counter[str]:
        """What was counted since the last call, by file."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        return counts
