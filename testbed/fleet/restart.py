"""``fimi fleet restart``: an agent leaves in order and comes back, which is waited for."""

from __future__ import annotations

import contextlib
import time

from fimi.messaging.console import Console
from fimi.messaging.errors import BrokerError, NotAnswered
from fimi.messaging.questions import RestartRequest, StatusQuestion

BACK_S = 90.0
"""How long an agent has time to leave and to come back, s: a large update may be on its way."""

_LOOK_AGAIN_S = 0.2


def restart(console: Console, board: str, *, force: bool = False) -> float:
    """Let the agent of a board start again, and wait until it answers.

    Returns:
        How long that took, s.

    Raises:
        BoardDeclines: it does not; says why.
        NotAnswered: it does not answer, or is not back in time.
    """
    before = console.seen(board).state
    began_s = time.monotonic()
    console.ask(board, RestartRequest(force=force))
    while time.monotonic() < began_s + BACK_S:
        if _is_another(console, board, "" if before is None else before.boot_id):
            return time.monotonic() - began_s
        time.sleep(_LOOK_AGAIN_S)
    raise NotAnswered(
        f"{board} has left and is not back after {BACK_S:.0f} s: look at its log on the board "
        "(journalctl -u fimi-agent)"
    )


def _is_another(console: Console, board: str, before: str) -> bool:
    """Whether a board answers that is another start than ``before``."""
    state = console.seen(board).state
    if state is None or state.status == "offline" or state.boot_id == before:
        return False
    with contextlib.suppress(NotAnswered, BrokerError):
        console.ask(board, StatusQuestion(), 2.0)
        return True
    return False
