"""A world draws a power that the test decides, and shows it the way the real thing would."""

from __future__ import annotations

from pathlib import Path

from fimi.energy.clock import VirtualClock
from fimi.energy.meters import Meter


def write(path: Path, text: object) -> Path:
    """Make a file and the folders it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")
    return path


class World:
    """A board that draws what it is told to."""

    scope = "board"
    kind = "measured"
    resolution_w = 0.005
    averages = False
    breaks: tuple[str, ...] = ()

    def __init__(self, root: Path, clock: VirtualClock) -> None:
        self.root = root
        self.clock = clock
        self.power_w = 4.0
        self.energy_j = 0.0
        self.build()
        self.show()

    def build(self) -> None:
        """Files that do not change."""

    def show(self) -> None:
        """The present power and energy."""
        raise NotImplementedError

    def open(self) -> Meter:
        raise NotImplementedError

    def draw(self, power_w: float) -> None:
        """Draw so much from now on."""
        self.power_w = power_w
        self.show()

    def wait(self, duration_s: float) -> None:
        """Let time pass."""
        self.clock.advance(duration_s)
        self.energy_j += self.power_w * duration_s
        self.show()

    def break_(self, how: str) -> None:
        raise NotImplementedError

    def mend(self) -> None:
        """Be readable again."""
        self.show()

    def close(self) -> None:
        """Whatever a test leaves behind."""


class Files(World):
    """A world whose readings are files, all broken in the same way."""

    breaks = ("vanish", "unreadable", "garbage", "empty", "negative")

    def files(self) -> list[Path]:
        """Those that hold the reading."""
        raise NotImplementedError

    def break_(self, how: str) -> None:
        path = self.files()[-1]
        if how == "vanish":
            path.unlink()
        elif how == "unreadable":
            path.unlink()
            path.mkdir()  # even root cannot read it as a file
        else:
            path.write_text({"garbage": "<unknown>\n", "empty": "", "negative": "-17\n"}[how])

    def mend(self) -> None:
        path = self.files()[-1]
        if path.is_dir():
            path.rmdir()
        self.show()
