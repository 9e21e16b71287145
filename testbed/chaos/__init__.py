"""Faults on purpose: ``fimi chaos``.

* :mod:`~fimi.testbed.chaos.proxy`       a TCP proxy whose link can be slow, cut, frozen, half-open
* :mod:`~fimi.testbed.chaos.connection`  one connection through it
* :mod:`~fimi.testbed.chaos.line`        one way of a slow link, in a time that is given
* :mod:`~fimi.testbed.chaos.frames`      MQTT packets repeated and put out of order
"""
