"""The report of a run, made from its store alone.

* :func:`testbed.report.data.read_run`        the store as :class:`testbed.report.run_data.RunData`
* :func:`testbed.report.summary.summarise`    the numbers; :mod:`testbed.report.phases` of phases
* :func:`testbed.report.tables.print_report`  the terminal's version; ``as_text`` the plain one
* :func:`testbed.report.html.write_report`    one self-contained page, ``report.html``, made of
  :mod:`~testbed.report.sections`, :mod:`~testbed.report.page_tables`,
  :mod:`~testbed.report.figures`, :mod:`~testbed.report.prediction`,
  :mod:`~testbed.report.observed`, :mod:`~testbed.report.labels`,
  :mod:`~testbed.report.insight`, :mod:`~testbed.report.generation` and
  :mod:`~testbed.report.deployment`
"""
