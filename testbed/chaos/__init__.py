"""Faults on purpose: ``fimi chaos``.

* :mod:`~fimi.testbed.chaos.script`        a TOML file of proxies, processes and faults; a timeline
* :mod:`~fimi.testbed.chaos.faults`        the kinds of faults
* :mod:`~fimi.testbed.chaos.runner`        runs a script, and logs what happens
* :mod:`~fimi.testbed.chaos.proxy`         a TCP proxy whose link can be slow, cut or half-open
* :mod:`~fimi.testbed.chaos.connection`    one connection through it
* :mod:`~fimi.testbed.chaos.line`          one way of a slow link, in a time that is given
* :mod:`~fimi.testbed.chaos.frames`        MQTT packets repeated and put out of order
* :mod:`~fimi.testbed.chaos.processes`     processes that are killed, stopped and started again
* :mod:`~fimi.testbed.chaos.surroundings`  full disks, limited files, clocks that jump
"""
