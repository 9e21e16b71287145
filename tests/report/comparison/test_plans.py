"""fimi.report.comparison.plans: a strategy's plans in a row."""

from __future__ import annotations

from fimi.record.record import PlanSummary
from fimi.report.comparison.plans import plan_rows_of


def test_searches_stay_apart_that_have_a_comma_in_their_names() -> None:
    searches = ("dual decomposition, then steps and samples", "dual decomposition")
    ((label, *_, found_by),) = plan_rows_of({"fimi": [PlanSummary(search=s) for s in searches * 2]})
    assert (label, found_by) == ("fimi", "; ".join(searches))
