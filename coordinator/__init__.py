"""The process that runs a federation.

* :mod:`coordinator.settings`    what a person decides: deadlines, bandwidth, learning curve, rounds
* :mod:`coordinator.inbox`       sorts what arrives
* :mod:`coordinator.registry`    which devices are there and what they said of themselves
* :mod:`coordinator.strategies`  FIMI and the baselines it is held against
* :mod:`coordinator.strategy_settings`  their keys in a configuration
* :mod:`coordinator.strategy_plans`  what a strategy comes to for a fleet
* :mod:`coordinator.server_training`  what the server does in a round besides averaging
* :mod:`coordinator.mixing`      GenFL's aggregation and its weights
* :mod:`coordinator.planning`    profiles in, plans out
* :mod:`coordinator.fixed_steps`  where a round is a number of steps, not of passes
* :mod:`coordinator.synthesis`   has a generator node make what the plan lacks
* :mod:`coordinator.participation`  k of n: who takes part in a round
* :mod:`coordinator.rounds`      one round: start, collect, check, close, settle
* :mod:`coordinator.deployment`  the trained model as files, tried on devices
* :mod:`coordinator.spool`       updates on their way into the mean, not all in memory at once
* :mod:`coordinator.insight`     learning metrics of a round's updates
* :mod:`coordinator.stopwatch`   where a run's wall time goes
* :mod:`coordinator.federation`  the whole run, from the first profile to the result
* :mod:`coordinator.errors`      what keeps a federation from starting or going on
* :mod:`coordinator.events`      what happens, as it happens
* :mod:`coordinator.results`     rounds and runs in numbers
* :mod:`coordinator.targets`     what an accuracy has cost
* :mod:`coordinator.prediction`  prediction held against measurement, and what errors come from
* :mod:`coordinator.adaptation`  when predictions drift: boards fitted again by
  :mod:`coordinator.refit`
* :mod:`coordinator.store`       the run store: one SQLite file per run
* :mod:`coordinator.schema`      its tables

Imports :mod:`energy`, :mod:`optim`, :mod:`learning` and :mod:`messaging`.
"""
