"""Runs as a collection: which there are, chosen, sorted, listed.

* :mod:`~fimi.report.collection.selection`  which runs are wanted, and in which order
* :mod:`~fimi.report.collection.listing`    runs as text, CSV and JSON
"""
