"""The process that runs a federation.

The run

* :mod:`~fimi.coordinator.federation`  the whole run, from the first profile to the result
* :mod:`~fimi.coordinator.context`  what everything in this room works with; errors that end a run;
  its stopwatch
* :mod:`~fimi.coordinator.settings`  what a person decides: deadlines, bandwidth, learning curve,
  rounds, strategy
* :mod:`~fimi.coordinator.inbox`       sorts what arrives
* :mod:`~fimi.coordinator.registry`    which devices are there and what they said of themselves

Strategies and plans

* :mod:`~fimi.coordinator.strategies`      FIMI and the baselines it is held against
* :mod:`~fimi.coordinator.strategy_plans`  what a strategy comes to for a fleet
* :mod:`~fimi.coordinator.planning`        profiles in, plans out
* :mod:`~fimi.coordinator.fixed_steps`     rounds that are a number of steps, not of passes
* :mod:`~fimi.coordinator.fleet_planner`   the fleet's plan under a strategy, made and made again
* :mod:`~fimi.coordinator.device_plans`    what each device was told, and what it took to follow
* :mod:`~fimi.coordinator.synthesis`       has a generator node make what the plan lacks
* :mod:`~fimi.coordinator.adaptation`      when predictions drift, boards are fitted again
* :mod:`~fimi.coordinator.refit`           that fit

Rounds

* :mod:`~fimi.coordinator.training_rounds`  round after round, from the draw to the entry in the
  store
* :mod:`~fimi.coordinator.rounds`           one round: start, collect, check, close, settle
* :mod:`~fimi.coordinator.participation`    k of n: who takes part in a round
* :mod:`~fimi.coordinator.update_store`  updates on their way into the mean, on disk where memory is
  short
* :mod:`~fimi.coordinator.insight`          learning metrics of a round's updates
* :mod:`~fimi.coordinator.server_training`  what the server does in a round besides averaging
* :mod:`~fimi.coordinator.mixing`           GenFL's aggregation and its weights
* :mod:`~fimi.coordinator.deployment`       the trained model as files, tried on devices

Imports :mod:`fimi.energy`, :mod:`fimi.optim`, :mod:`fimi.learning`, :mod:`fimi.messaging` and
:mod:`fimi.record`.
"""
