"""A run in a terminal: ``fimi top``, and the display of a run that goes on in this process.

* :mod:`~fimi.monitor.terminal.state`    what a person has chosen to see, and what keys change in it
* :mod:`~fimi.monitor.terminal.picture`  snapshot and choice become lines
* :mod:`~fimi.monitor.terminal.head`     its upper part: the run
* :mod:`~fimi.monitor.terminal.table`    its middle: the devices
* :mod:`~fimi.monitor.terminal.columns`  its columns
* :mod:`~fimi.monitor.terminal.cells`    what is said of a device in a few characters
* :mod:`~fimi.monitor.terminal.panes`    what takes the place of the table: a device, events, help
* :mod:`~fimi.monitor.terminal.rounds`  one of them: the rounds so far
* :mod:`~fimi.monitor.terminal.text`     lines that are never wider than asked
* :mod:`~fimi.monitor.terminal.display`  the picture, again and again, with keys
* :mod:`~fimi.monitor.terminal.screen`   a terminal that is filled and given back
* :mod:`~fimi.monitor.terminal.keys`     keys by their names
* :mod:`~fimi.monitor.terminal.listener`  the feed of a run elsewhere

Needs no packages but those of the base install: it runs where an agent does.
"""
