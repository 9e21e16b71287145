"""FIMI's optimisation problem: search, exact inner solvers, and a certificate of optimality.

* :mod:`optim.problem`         (P1) as arrays over devices; what infeasible means
* :mod:`optim.learning_curve`  how the error falls with data
* :mod:`optim.inner`           (P2) data and frequency, (P3) bandwidth and power, vectorised
* :mod:`optim.cross_entropy`   (P5) the outer search, on its own for any objective
* :mod:`optim.categories`      (P4) which classes to synthesise
* :mod:`optim.dual`            a lower bound from any multipliers
* :mod:`optim.certificate`     the joint convex program with CVXPY; good multipliers
* :mod:`optim.device_optimum`  each device's own optimum at given prices of error and band
* :mod:`optim.joint`           the whole problem by dual decomposition, for fleets of any size
* :mod:`optim.reference`       (P2) and (P3) by CVXPY, what the fast solvers are held to
* :mod:`optim.feasibility`     can there be a plan, and what would make one possible
* :mod:`optim.splits`          time splits as points of an unbounded space
* :mod:`optim.realise`         whole samples and settable frequencies
* :mod:`optim.plans`           a plan as values
* :mod:`optim.planner`         all of it: :func:`optim.planner.plan`
* :mod:`optim.quality`         plans in which a synthetic sample is worth less than a real one
* :mod:`optim.operating`       the search for any cost: measured tables, steps, whole samples
* :mod:`optim.policies`        other planners on the same problem, for comparison
* :mod:`optim.unplanned`       what a fleet does when nobody optimises its resources
* :mod:`optim.sweep`           certified plans over ranges of the limits
* :mod:`optim.target`          the Δ_max and deadline of fewest joules to a target accuracy
* :mod:`optim.special`         two functions of one variable and their inverses
* :mod:`optim.roots`           roots of monotone functions, one or many at once

Equations are numbered in ``docs/model.md``. Imports only :mod:`energy`.
"""
