"""What ``fimi fleet`` does: boards that are up, looked after from afar over the broker.

* :mod:`~fimi.testbed.fleet.boards`  which boards are there, and what is wrong with each
* :mod:`~fimi.testbed.fleet.status`  one line for each board
* :mod:`~fimi.testbed.fleet.watching`  the same, drawn again and again
* :mod:`~fimi.testbed.fleet.doctor`  every board's doctor in one table
* :mod:`~fimi.testbed.fleet.logs`  the last lines of a board's log
* :mod:`~fimi.testbed.fleet.restart`  an agent leaves in order and comes back
"""
