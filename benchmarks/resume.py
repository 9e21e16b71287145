"""Whether a dry run that is killed at any moment ends with the same numbers as an undisturbed one.

    python benchmarks/resume.py [--kills 20] [--seed N] [-- --strategy genfl --devices 3 ...]

A run is made once without disturbance. Then it is begun again and again under other names, killed
(SIGKILL) at a random moment of its wall time, and gone on with: ``fimi dry-run --resume NAME``. One
of four is killed a second time while it goes on. Half of the kills hit the command alone, whose
child processes then notice its death; half hit all processes at once, as a power cut does. The
record is then compared with that of the undisturbed run: every table and column but wall-clock
time, random ids and names (``APART`` and ``EVENTS`` in tests/testbed/same_record.py).

What is behind ``--`` are options of ``fimi dry-run``. The exit status is the number of runs that
differ, or did not end.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "testbed"))
from same_record import differences

SMALL = ("--devices", "3", "--rounds", "4", "--set", "plan.error_max=0.08")
PATIENCE_S = 300.0


def command(*arguments: str) -> list[str]:
    """``fimi dry-run``."""
    return [sys.executable, "-m", "fimi.testbed.cli", "dry-run", *arguments]


def kill(process: subprocess.Popen[str], *, everybody: bool) -> bool:
    """SIGKILL a command, alone or with all processes below it; returns whether it still ran."""
    below = []
    if everybody:
        with contextlib.suppress(psutil.Error):
            below = psutil.Process(process.pid).children(recursive=True)
    ran = process.poll() is None
    if ran:
        os.killpg(process.pid, signal.SIGKILL)
    for child in below:
        with contextlib.suppress(psutil.Error):
            child.kill()
    process.wait()
    return ran


def moment(folder: Path) -> str:
    """How far a run came by its store: its rounds, and the last thing that its log has."""
    try:
        with closing(sqlite3.connect(f"file:{folder}/run.sqlite?mode=ro", uri=True)) as db:
            (rounds,) = db.execute("SELECT count(*) FROM round").fetchone()
            last = db.execute("SELECT event FROM event ORDER BY id DESC LIMIT 1").fetchone()
    except sqlite3.Error:
        return "nothing stored"
    return f"{rounds} rounds, {last[0] if last else 'nothing'}"


def finish(folder: Path, options: list[str], name: str) -> tuple[float, str]:
    """Go on with a run to its end; the wall time, s, and what is wrong."""
    arguments = [*options, "--name", name]
    if (folder / "run.sqlite").exists():
        arguments = ["--resume", name]
    began_s = time.monotonic()
    done = subprocess.run(
        command(*arguments, "-q"),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    wrong = ""
    if done.returncode and "is completed" not in done.stderr:
        if "nothing was stored here" in done.stderr or "does not say how" in done.stderr:
            again = subprocess.run(
                command(*options, "--name", name, "-q"),
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
                check=False,
            )
            wrong = again.stderr if again.returncode else ""
        else:
            wrong = done.stderr
    return time.monotonic() - began_s, wrong.strip()


def main() -> int:
    """Make the runs and print a line for each."""
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    given = sys.argv[cut + 1 :] or list(SMALL)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=None)
    asked = parser.parse_args(sys.argv[1:cut])
    seed = random.SystemRandom().randrange(10**6) if asked.seed is None else asked.seed
    chance = random.Random(seed)
    print(f"seed {seed}; fimi dry-run {' '.join(given)}; load {os.getloadavg()[0]:.1f}")
    unequal = 0
    with tempfile.TemporaryDirectory(prefix="fimi-resume-") as place:
        os.chdir(place)
        began_s = time.monotonic()
        subprocess.run(command(*given, "--name", "whole", "-q"), check=True, capture_output=True)
        whole_s = time.monotonic() - began_s
        print(f"undisturbed: {whole_s:.1f} s")
        for number in range(1, asked.kills + 1):
            name = f"killed-{number}"
            folder = Path("runs", name)
            at_s, everybody = chance.uniform(0.0, whole_s), chance.random() < 0.5
            moments = []
            process = subprocess.Popen(
                command(*given, "--name", name),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                text=True,
            )
            time.sleep(at_s)
            if kill(process, everybody=everybody):
                moments.append(f"{at_s:.2f} s: {moment(folder)}")
            if chance.random() < 0.25 and (folder / "run.sqlite").exists():
                process = subprocess.Popen(
                    command("--resume", name),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                    text=True,
                )
                time.sleep(again_s := chance.uniform(0.0, whole_s))
                if kill(process, everybody=everybody):
                    moments.append(f"and {again_s:.2f} s: {moment(folder)}")
            took_s, wrong = finish(folder, given, name)
            found = [wrong] if wrong else differences(Path("runs", "whole"), folder)
            unequal += bool(found)
            who = "all processes" if everybody else "command"
            said = "; ".join(moments) or "ended before"
            print(f"{number:3d}  {who:13}  {said}; went on for {took_s:.1f} s: ", end="")
            print("the same" if not found else f"{len(found)} differences", flush=True)
            for each in found[:20]:
                print(f"       {each}")
    print(f"{asked.kills - unequal} of {asked.kills} the same")
    return unequal


if __name__ == "__main__":
    sys.exit(main())
