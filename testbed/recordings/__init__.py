"""Recordings of other tools, read into recordings that ``replay`` of a profile takes.

* :mod:`~fimi.testbed.recordings.importing`   reading a file of whatever format, and writing it
* :mod:`~fimi.testbed.recordings.recording`   a recording, its settings, errors and what it says
* :mod:`~fimi.testbed.recordings.unit`        the unit of a column, and whether it can be right
* :mod:`~fimi.testbed.recordings.counters`    counters that fall
* :mod:`~fimi.testbed.recordings.times`       the times of a table, and their unit
* :mod:`~fimi.testbed.recordings.tegrastats`  NVIDIA's tegrastats, JetPack 4 to 7
* :mod:`~fimi.testbed.recordings.table`       CSV files of any heading, jtop's among them
* :mod:`~fimi.testbed.recordings.codecarbon`  CodeCarbon's ``emissions.csv``
"""
