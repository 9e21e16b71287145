"""The record of a run: written by the coordinator, read by the report and the testbed.

Writing

* :mod:`~fimi.record.events`   events of a run
* :mod:`~fimi.record.interventions`  what is asked of a run that goes on, and what became of it
* :mod:`~fimi.record.results`  rounds and runs in numbers
* :mod:`~fimi.record.fairness`  how evenly a model serves the devices
* :mod:`~fimi.record.insight`  types of the learning metrics of a round
* :mod:`~fimi.record.schema`   the tables of a run store: every column, once
* :mod:`~fimi.record.views`    its flat views, for people and their tools
* :mod:`~fimi.record.description`  how a table is described, and what is made from it
* :mod:`~fimi.record.store`    the run store: one SQLite file per run
* :mod:`~fimi.record.store_file`  that file: locked, in transactions, on the disk
* :mod:`~fimi.record.checkpoint_parts`  what a process needs to go on with a run, in its store
* :mod:`~fimi.record.reopening`  whether a run can be gone on with
* :mod:`~fimi.record.credit`   what a device reports after its round was closed
* :mod:`~fimi.record.readings_rows`  parts of meters' readings as rows
* :mod:`~fimi.record.readings_writing`  writes them, as many as a device can have
* :mod:`~fimi.record.bounds`   the most that a device can have used while nothing was known

Reading

* :mod:`~fimi.record.record`     a run as types
* :mod:`~fimi.record.reader`     a run store as a :class:`~fimi.record.record.RunData`
* :mod:`~fimi.record.readings`   what meters showed, as arrays, with the phases it made
* :mod:`~fimi.record.headline`   a run in one line, without the rest of its store
* :mod:`~fimi.record.catalogue`  the runs below a folder, broken ones included
* :mod:`~fimi.record.migration`  an older store, read with the tables of this version
* :mod:`~fimi.record.clean`      foreign text without control characters
* :mod:`~fimi.record.export`     its tables as CSV, Parquet or JSON files

Figures

* :mod:`~fimi.record.summary`  the numbers of a run, for the report, JSON, experiments and the
  terminal
* :mod:`~fimi.record.sums`        sums of joules, with the parts that are missing
* :mod:`~fimi.record.phases`      joules and seconds phase by phase
* :mod:`~fimi.record.resolution`  how each figure of a phase was made; energy above resting
* :mod:`~fimi.record.curve`       round by round, and what an accuracy has cost
* :mod:`~fimi.record.prediction`  prediction against measurement, and the causes of errors
* :mod:`~fimi.record.planned`     the plan's round against the rounds that were run by it
* :mod:`~fimi.record.second`      what a second meter says beside the first one
* :mod:`~fimi.record.codings`     what codings did: bytes, joules of the upload, errors
* :mod:`~fimi.record.recount`     every joule once more, from the readings
* :mod:`~fimi.record.bundle`      a run as one file, and whether such a file holds
* :mod:`~fimi.record.carbon`      a carbon figure by ISO/IEC 21031, where an intensity is given
* :mod:`~fimi.record.carbon_settings`  what it needs beside joules
* :mod:`~fimi.record.observed`    clock, throttling and link of every board, in numbers

Imports :mod:`fimi.energy`, :mod:`fimi.optim`, :mod:`fimi.learning` and :mod:`fimi.messaging`.
"""
