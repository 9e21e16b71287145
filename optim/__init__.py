"""FIMI's optimisation problem: search, exact inner solvers, and a certificate of optimality.

The problem

* :mod:`fimi.optim.problem`        (P1) as arrays over devices; the error for infeasible problems
* :mod:`fimi.optim.board_problem`  (P1) of boards as they are declared or calibrated
* :mod:`fimi.optim.learning_curve` how the error falls with data
* :mod:`fimi.optim.known_curve`    the same with what it was measured on; the built-in ones
* :mod:`fimi.optim.curve_profile`  the law of least squares, and how far its parameters may go
* :mod:`fimi.optim.progress`       how that error falls over the rounds of a run
* :mod:`fimi.optim.problem_file`   a problem as a TOML file
* :mod:`fimi.optim.file_devices`   the devices in it, by keys or calibrated profiles
* :mod:`fimi.optim.doubts`         values in a wrong unit, operating points that nobody would use

Its parts

* :mod:`fimi.optim.lanes`          devices as convex pieces: a law, or one for each step
* :mod:`fimi.optim.radio`          what an upload costs in a window of time at a price of the band
* :mod:`fimi.optim.inner`          (P2) data and frequency, (P3) bandwidth and power, vectorised
* :mod:`fimi.optim.categories`     (P4) which classes to synthesise
* :mod:`fimi.optim.splits`         time splits and the round as points of an unbounded space
* :mod:`fimi.optim.cross_entropy`  (P5) the outer search, for any objective

The whole, by prices

* :mod:`fimi.optim.prices`         what couples the devices, and a first guess
* :mod:`fimi.optim.device_optimum` each device's own optimum at given prices and length of the round
* :mod:`fimi.optim.dual`           a lower bound from any prices, over all lengths of the round
* :mod:`fimi.optim.joint`          the optimum in real numbers of samples, for fleets of any size
* :mod:`fimi.optim.ascent`         prices of the highest bound where roots do not find them
* :mod:`fimi.optim.summit`         the top of a concave function, by cutting planes
* :mod:`fimi.optim.budgets`        budgets of joules, of a device and of the fleet
* :mod:`fimi.optim.spending`       what the boards of a plan use in a run

Whether a plan exists

* :mod:`fimi.optim.leanest`        the least bandwidth of any plan, in real numbers of samples
* :mod:`fimi.optim.whole`          the same in whole samples: whether a plan that can run exists
* :mod:`fimi.optim.feasibility`    the error that says why there is none
* :mod:`fimi.optim.advice`         what would make one possible, each remedy tried as printed
* :mod:`fimi.optim.budget_advice`  what would be enough where budgets are in the way
* :mod:`fimi.optim.wording`        named devices and rounded limits in messages

What a fleet can run

* :mod:`fimi.optim.realise`        whole samples and settable speeds
* :mod:`fimi.optim.steps`          steps, whole samples and the length of the round chosen together
* :mod:`fimi.optim.settled`        times and bands for samples and steps that are given
* :mod:`fimi.optim.plans`          a plan as values
* :mod:`fimi.optim.planner`        plans a fleet with all of these: :func:`fimi.optim.planner.plan`

Around a plan

* :mod:`fimi.optim.target`         the Δ_max of fewest joules to a target accuracy
* :mod:`fimi.optim.epochs`         the local epochs of fewest joules to it
* :mod:`fimi.optim.rounds_model`   how many rounds an accuracy takes
* :mod:`fimi.optim.progress`       how the mean local error falls over the rounds of a run
* :mod:`fimi.optim.rounds_defaults` rounds to an accuracy where nobody says otherwise
* :mod:`fimi.optim.sweep`          certified plans over ranges of the limits
* :mod:`fimi.optim.quality`        plans in which a synthetic sample is worth less than a real one
* :mod:`fimi.optim.unplanned`      a fleet whose resources nobody optimises
* :mod:`fimi.optim.ask`            a problem or its file planned in one call: ``fimi.plan``

By others and by hand

* :mod:`fimi.optim.reference`      (P2) and (P3) by CVXPY: the reference for the fast solvers
* :mod:`fimi.optim.certificate`    the whole problem as one program with CVXPY: a second solver
* :mod:`fimi.optim.special`        two functions of one variable and their inverses
* :mod:`fimi.optim.roots`          roots of monotone functions, one or many at once

A plan goes this way: ``budgets`` (which calls ``joint``: prices, bound, a plan in real numbers),
``cross_entropy`` from its splits, ``realise``, ``steps`` and ``settled`` for what devices can run,
``planner`` around all of them.

Equations are numbered in ``docs/model.md``. Imports only :mod:`fimi.energy`.
"""
