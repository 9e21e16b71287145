"""Runs as a collection: which there are, chosen, sorted, listed, and compared.

* :mod:`~fimi.report.collection.selection`  which runs are wanted, and in which order
* :mod:`~fimi.report.collection.listing`    runs as text, CSV and JSON

Compared, whatever they were begun for:

* :mod:`~fimi.report.collection.grouping`   runs that differ in their seeds alone are a group
* :mod:`~fimi.report.collection.contrast`   what groups differ in, and what to know of that
* :mod:`~fimi.report.collection.compared`   groups in numbers, prices of accuracies, ratios
* :mod:`~fimi.report.collection.compared_tables`    the same as tables and text
* :mod:`~fimi.report.collection.compared_values`    the same as JSON
* :mod:`~fimi.report.collection.compared_pictures`  learning curves with bands, joules, errors
* :mod:`~fimi.report.collection.compared_page`      all of it as one page
"""
