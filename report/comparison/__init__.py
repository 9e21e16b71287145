"""Runs compared: strategies, seeds and grid points of an experiment, from their stores alone.

* :mod:`~fimi.report.comparison.runs`        figures of each run
* :mod:`~fimi.report.comparison.statistics`  intervals over seeds; "never reached" is infinity
* :mod:`~fimi.report.comparison.tuning`      the settings that suit each strategy
* :mod:`~fimi.report.comparison.result`      every grid point and strategy against the baseline
* :mod:`~fimi.report.comparison.predicted`   what runs took beside what was predicted of them
* :mod:`~fimi.report.comparison.shown`       how numbers stand in tables
* :mod:`~fimi.report.comparison.tables`      the same as text and Markdown
* :mod:`~fimi.report.comparison.values`      the same for programs: CSV and JSON
* :mod:`~fimi.report.comparison.plans`       the plans behind the runs, with bounds and gaps
* :mod:`~fimi.report.comparison.page`        the same as a page
* :mod:`~fimi.report.comparison.pictures`    its pictures

And several experiments side by side, from their ``results.json``.

* :mod:`~fimi.report.comparison.stored`        that file, read again
* :mod:`~fimi.report.comparison.side_by_side`  strategies that they have in common
* :mod:`~fimi.report.comparison.differences`   what differs besides, and whether tables are the same
* :mod:`~fimi.report.comparison.side_tables`   the same as text, Markdown and JSON
* :mod:`~fimi.report.comparison.side_page`     the same as a page
"""
