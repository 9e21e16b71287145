"""A configuration: its keys, its files, and what has to fit together.

* :mod:`~fimi.testbed.configuration.sections`         every key, its type, its default, its meaning
* :mod:`~fimi.testbed.configuration.load`  a configuration from files and options; where each value
  comes from
* :mod:`~fimi.testbed.configuration.scenario`  a configuration and what it comes to: division of the
  data, network cost, digests
* :mod:`~fimi.testbed.configuration.rules`  what keys must be together
* :mod:`~fimi.testbed.configuration.strategy_config`  what a strategy asks of the rest of it
"""
