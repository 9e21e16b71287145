"""The dashboard: a web server in the coordinator's process.

* :mod:`~fimi.monitor.server.service`  the server on a thread of its own
* :mod:`~fimi.monitor.server.app`      its addresses
* :mod:`~fimi.monitor.server.hooks`    what it asks of the run, beside snapshots
* :mod:`~fimi.monitor.server.access`   who may look, and who may act
* :mod:`~fimi.monitor.server.door`     the file in a run folder that says where it is, and its key

Its pages are in the folder ``pages``: HTML, CSS and ES modules without a build step. The script of
plotly comes from the installed package. Nothing is fetched from anywhere else.
"""
