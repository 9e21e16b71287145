"""What devices report of rounds that are stored: credited to them.

* :class:`Crediting`  does that for each fact, and for those that came when nobody could
"""

from __future__ import annotations

from fimi.coordinator.context import Context
from fimi.coordinator.late_updates import LateUpdates
from fimi.coordinator.round_book import RoundBook
from fimi.coordinator.rounds import RoundFact
from fimi.messaging.messages.facts import RoundReport, RoundSettled, UpdateReady
from fimi.record.events import Credited


class Crediting:
    """Credits facts to stored rounds.

    Args:
        context: the context of the run.
        book: the stored rounds.
        late: takes updates that are offered after their round.
    """

    def __init__(self, context: Context, book: RoundBook, late: LateUpdates) -> None:
        self._context = context
        self._book = book
        self._late = late

    def late(self, fact: RoundFact) -> bool:
        """Credit a fact of a round that is stored; returns whether that is so."""
        if fact.round > self._book.last:
            return False
        store, device = self._context.store, fact.device
        with store.together():
            changed = None
            if not isinstance(fact, UpdateReady):
                store.write_readings(fact.round, device, fact.readings)
            if isinstance(fact, RoundReport):
                changed = store.credit(fact.round, device, report=fact)
            elif isinstance(fact, RoundSettled):
                changed = store.credit(fact.round, device, settled=fact)
            if changed is not None:
                self._context.notify(Credited(round=fact.round, device=device, entry=changed))
        if not (isinstance(fact, UpdateReady) and self._late.offered(fact, self._book.results)):
            self._context.conversation.stored(device, fact)
        return True

    def earlier(self) -> None:
        """Credit what came of stored rounds when nobody could deal with it.

        That is before they were stored, from devices that they did not wait for, and while the
        fleet of a run that goes on was gathered.
        """
        facts: list[tuple[str, RoundFact]] = self._context.conversation.open(
            UpdateReady, RoundReport, RoundSettled
        )
        for _, fact in facts:
            self.late(fact)
