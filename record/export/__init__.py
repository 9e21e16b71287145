"""The tables of a stored run as files for other tools: CSV, Parquet, JSON.

* :mod:`~fimi.record.export.tables`    which tables there are, and their rows
* :mod:`~fimi.record.export.carbon`    carbon figures as a table, where an intensity is given
* :mod:`~fimi.record.export.files`     a table as a file of a format
* :mod:`~fimi.record.export.package`   what the files are, for programs: ``datapackage.json``
* :mod:`~fimi.record.export.writing`   all of it in a folder, whole or not at all

Tables, columns and units are those of ``docs/record.md``; both follow from
:mod:`fimi.record.schema` and :mod:`fimi.record.views`.
"""
