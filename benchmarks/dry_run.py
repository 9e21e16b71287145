"""The dry run as a whole: wall time, memory, and whether the same seed gives the same numbers.

    python benchmarks/dry_run.py

Memory is the sum over all processes of their proportional set size, in which a page that several
processes share counts once (Linux only); the sum of resident sizes, which counts it once for each
process, is printed beside it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

WALL_LIMIT_S, MEMORY_LIMIT_MB = 60.0, 1500.0


def run(folder: str, name: str) -> tuple[dict[str, Any], float, float, float]:
    """One run: its result, wall seconds, and peaks of shared and resident memory, MB."""
    command = [str(Path(sys.executable).with_name("fimi")), "dry-run", "--format", "json"]
    began_s = time.monotonic()
    process = subprocess.Popen(
        [*command, "--directory", folder, "--name", name],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    shared_mb = resident_mb = 0.0
    while process.poll() is None:
        family = [psutil.Process(process.pid)]
        try:
            family += family[0].children(recursive=True)
            sizes = [member.memory_full_info() for member in family]
        except psutil.Error:
            continue
        shared_mb = max(shared_mb, sum(size.pss for size in sizes) / 1e6)
        resident_mb = max(resident_mb, sum(size.rss for size in sizes) / 1e6)
        time.sleep(0.5)
    wall_s = time.monotonic() - began_s
    result: dict[str, Any] = json.loads(process.stdout.read())
    return result, wall_s, shared_mb, resident_mb


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        first, wall_s, shared_mb, resident_mb = run(folder, "first")
        second, *_ = run(folder, "second")
    print(f"default dry run: {first['rounds']} rounds, final accuracy {first['accuracy'][-1]:.1%}")
    print(
        f"wall time {wall_s:.1f} s, {wall_s / WALL_LIMIT_S:.2f} of the {WALL_LIMIT_S:g} s aimed at"
    )
    print(
        f"memory {shared_mb:.0f} MB proportional, {shared_mb / MEMORY_LIMIT_MB:.2f} of the "
        f"{MEMORY_LIMIT_MB:g} MB aimed at ({resident_mb:.0f} MB summed over processes)"
    )
    different = [
        key for key in first if key not in ("run_dir", "wall_s") and first[key] != second[key]
    ]
    print(f"same seed again: {'identical' if not different else 'DIFFERENT in ' + str(different)}")
    sys.exit(bool(different) or wall_s > WALL_LIMIT_S or shared_mb > MEMORY_LIMIT_MB)


if __name__ == "__main__":
    main()
