"""A configuration: its keys, its files, and the rules between keys.

* :mod:`~fimi.testbed.configuration.sections`         every key, its type, its default, its meaning
* :mod:`~fimi.testbed.configuration.load`  a configuration from files and options; where each value
  comes from
* :mod:`~fimi.testbed.configuration.scenario`  a configuration with the division of the data,
  network cost and digests
* :mod:`~fimi.testbed.configuration.rules`  conditions on several keys
* :mod:`~fimi.testbed.configuration.effects`  values that change nothing, which is said
* :mod:`~fimi.testbed.configuration.strategy_config`  values that a strategy sets
"""
