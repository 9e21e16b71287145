"""The process that runs a federation.

The run

* :mod:`~fimi.coordinator.federation`  the whole run, from the first profile to the result
* :mod:`~fimi.coordinator.outcome`   what a run leaves behind
* :mod:`~fimi.coordinator.host`      what it makes of messages that no part of it waits for
* :mod:`~fimi.coordinator.context`  objects that all modules here use; errors that end a run; the
  stopwatch
* :mod:`~fimi.coordinator.settings`    deadlines, bandwidth, learning curve, rounds, strategy
* :mod:`~fimi.coordinator.conversation`  what is wanted of each device, and what each has reported
* :mod:`~fimi.coordinator.enrolment`    who takes part, and with which samples
* :mod:`~fimi.coordinator.gathering`    before it begins or goes on: waiting for the fleet
* :mod:`~fimi.coordinator.patience`     how long others are waited for, and how often that is said;
  a clock that stands still without a broker
* :mod:`~fimi.coordinator.controls`     what others ask of it: handed in by any thread
* :mod:`~fimi.coordinator.interventions`  that, served between two rounds
* :mod:`~fimi.coordinator.consequences`  and what each request comes to
* :mod:`~fimi.coordinator.checkpoint`   what a run needs to go on after its coordinator was killed
* :mod:`~fimi.coordinator.inbox`       sorts what arrives
* :mod:`~fimi.coordinator.registry`    which devices are online or expected back, their profiles

Strategies and plans

* :mod:`~fimi.coordinator.strategies`      FIMI and the strategies with which it is compared
* :mod:`~fimi.coordinator.strategy_plans`  the plan of a fleet under a strategy
* :mod:`~fimi.coordinator.curves`          the learning curve of a run: found, read, or measured
* :mod:`~fimi.coordinator.planning`        profiles in, plans out
* :mod:`~fimi.coordinator.fixed_steps`     rounds that are a number of steps, not of passes
* :mod:`~fimi.coordinator.preparation`     receiving synthetic samples, where their number is given
* :mod:`~fimi.coordinator.fleet_planner`   the fleet's plan under a strategy, made and made again
* :mod:`~fimi.coordinator.plan_advice`     what would make a plan possible, in configuration keys
* :mod:`~fimi.coordinator.device_plans`    the plan of each device, and receiving its batch
* :mod:`~fimi.coordinator.newcomers`       devices that join a run that has begun
* :mod:`~fimi.coordinator.synthesis`       requests the plan's synthetic batches
* :mod:`~fimi.coordinator.replanning`      between rounds: a new plan for the same data, where due
* :mod:`~fimi.coordinator.data_replanning`  between rounds: other data, where it is due
* :mod:`~fimi.coordinator.adaptation`      when predictions drift, and the boards as fitted
* :mod:`~fimi.coordinator.learning_adaptation`  when errors drift, and the curve as fitted
* :mod:`~fimi.coordinator.refit`           that fit
* :mod:`~fimi.coordinator.allowance`       what is left of budgets after some rounds

Rounds

* :mod:`~fimi.coordinator.training_rounds`  round after round, from the draw to the entry in the
  store
* :mod:`~fimi.coordinator.round_opening`    who takes part in one, and what it begins with
* :mod:`~fimi.coordinator.round_book`       finished ones in the store, and the state between two
* :mod:`~fimi.coordinator.crediting`        what devices report of those
* :mod:`~fimi.coordinator.fruitless`        those of which nothing came, and when they end a run
* :mod:`~fimi.coordinator.global_model`     the model in force: judged, and kept on the disk
* :mod:`~fimi.coordinator.rounds`           one round: start, collect, close, settle
* :mod:`~fimi.coordinator.round_order`      what a round begins with, and what it comes to
* :mod:`~fimi.coordinator.round_end`        what ends it early: rules that compose
* :mod:`~fimi.coordinator.round_updates`    its updates: pulled, pulled again, checked
* :mod:`~fimi.coordinator.round_verdict`    what became of each participant, and how long it was
* :mod:`~fimi.coordinator.combining`        its updates and late ones become one model
* :mod:`~fimi.coordinator.late_updates`     updates that enter the mean of a later round
* :mod:`~fimi.coordinator.late_models`      what those are decoded with: models of earlier rounds
* :mod:`~fimi.coordinator.pulls`            when a pull that has failed is begun again
* :mod:`~fimi.coordinator.participation`    k of n: who takes part in a round
* :mod:`~fimi.coordinator.payloads`  the model as it goes, updates as they come, and their sizes
* :mod:`~fimi.coordinator.update_store`  updates on their way into the mean, on disk where memory is
  short
* :mod:`~fimi.coordinator.screening`  which updates go into the model, and how far; who is set aside
* :mod:`~fimi.coordinator.dealt`            what devices train on, where it was dealt out here
* :mod:`~fimi.coordinator.gradients`        similarity of devices' gradients to the IID one
* :mod:`~fimi.coordinator.insight`          learning metrics of a round's updates
* :mod:`~fimi.coordinator.local_errors`     errors of devices' models, planned and measured
* :mod:`~fimi.coordinator.server_training`  the server's training in a round
* :mod:`~fimi.coordinator.mixing`           GenFL's aggregation and its weights
* :mod:`~fimi.coordinator.deployment`       the trained model as files, tried on devices

Imports :mod:`fimi.energy`, :mod:`fimi.optim`, :mod:`fimi.learning`, :mod:`fimi.messaging` and
:mod:`fimi.record`.
"""
