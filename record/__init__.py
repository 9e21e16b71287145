"""What a run leaves behind: written by the coordinator, read by everybody else.

Writing

* :mod:`~fimi.record.events`   what happens in a run, as it happens
* :mod:`~fimi.record.results`  rounds and runs in numbers
* :mod:`~fimi.record.insight`  types of the learning metrics of a round
* :mod:`~fimi.record.schema`   the tables of a run store: every column, once
* :mod:`~fimi.record.views`    its flat views, for people and their tools
* :mod:`~fimi.record.description`  what a description of a table is, and what follows from it
* :mod:`~fimi.record.store`    the run store: one SQLite file per run

Reading

* :mod:`~fimi.record.record`     a run as types
* :mod:`~fimi.record.reader`     a run store as a :class:`~fimi.record.record.RunData`
* :mod:`~fimi.record.migration`  an older store, read with the tables of this version
* :mod:`~fimi.record.clean`      foreign text without control characters

Figures

* :mod:`~fimi.record.summary`  the numbers of a run, for the report, JSON, experiments and the
  terminal
* :mod:`~fimi.record.sums`        sums of joules that say what they lack
* :mod:`~fimi.record.phases`      joules and seconds phase by phase
* :mod:`~fimi.record.curve`       round by round, and what an accuracy has cost
* :mod:`~fimi.record.prediction`  prediction held against measurement, and what errors come from
* :mod:`~fimi.record.observed`    clock, throttling and link of every board, in numbers

Imports :mod:`fimi.energy`, :mod:`fimi.optim`, :mod:`fimi.learning` and :mod:`fimi.messaging`.
"""
