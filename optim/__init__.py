"""FIMI's optimisation problem: search, exact inner solvers, and a certificate of optimality.

* :mod:`fimi.optim.problem`         (P1) as arrays over devices; the error for infeasible problems
* :mod:`fimi.optim.learning_curve`  how the error falls with data
* :mod:`fimi.optim.curve_profile`   the law of least squares, and how far its parameters may go
* :mod:`fimi.optim.inner`           (P2) data and frequency, (P3) bandwidth and power, vectorised
* :mod:`fimi.optim.cross_entropy`   (P5) the outer search, for any objective
* :mod:`fimi.optim.categories`      (P4) which classes to synthesise
* :mod:`fimi.optim.dual`            a lower bound from any multipliers
* :mod:`fimi.optim.certificate`     the joint convex program with CVXPY; good multipliers
* :mod:`fimi.optim.device_optimum`  each device's own optimum at given prices of error and band
* :mod:`fimi.optim.joint`           the whole problem by dual decomposition, for fleets of any size
* :mod:`fimi.optim.reference`       (P2) and (P3) by CVXPY: the reference for the fast solvers
* :mod:`fimi.optim.leanest`         the least bandwidth of any plan, in real numbers of samples
* :mod:`fimi.optim.whole`           the same in whole samples: whether a plan that can run exists
* :mod:`fimi.optim.advice`          what would make a plan possible, each remedy tried as printed
* :mod:`fimi.optim.wording`         named devices and rounded limits in messages
* :mod:`fimi.optim.feasibility`     whether a plan exists; if not, the error that says why
* :mod:`fimi.optim.splits`          time splits as points of an unbounded space
* :mod:`fimi.optim.realise`         whole samples and settable frequencies
* :mod:`fimi.optim.plans`           a plan as values
* :mod:`fimi.optim.planner`         plans a fleet with all of these: :func:`fimi.optim.planner.plan`
* :mod:`fimi.optim.quality`         plans in which a synthetic sample is worth less than a real one
* :mod:`fimi.optim.operating`       the search for any cost: measured tables, steps, whole samples
* :mod:`fimi.optim.unplanned`       a fleet whose resources nobody optimises
* :mod:`fimi.optim.doubts`          values in a wrong unit, operating points that nobody would use
* :mod:`fimi.optim.problem_file`    a problem as a TOML file
* :mod:`fimi.optim.file_devices`    the devices in it, by keys or calibrated profiles
* :mod:`fimi.optim.ask`             a problem or its file planned in one call: ``fimi.plan``
* :mod:`fimi.optim.sweep`           certified plans over ranges of the limits
* :mod:`fimi.optim.target`          the Δ_max and deadline of fewest joules to a target accuracy
* :mod:`fimi.optim.special`         two functions of one variable and their inverses
* :mod:`fimi.optim.roots`           roots of monotone functions, one or many at once

Certification: :func:`fimi.optim.dual.dual` computes the bound, ``certificate`` proposes multipliers
for it, and ``_prove`` in ``planner`` takes the better bound. ``joint`` plans and certifies large
fleets, ``quality`` synthetic samples of a worth below 1.

Equations are numbered in ``docs/model.md``. Imports only :mod:`fimi.energy`.
"""
