"""What ``fimi fleet`` does: boards that are up, looked after from afar over the broker.

* :mod:`~fimi.testbed.fleet.boards`  which boards are there, and what is wrong with each
* :mod:`~fimi.testbed.fleet.status`  one line for each board
* :mod:`~fimi.testbed.fleet.watching`  the same, drawn again and again
* :mod:`~fimi.testbed.fleet.doctor`  every board's doctor in one table
* :mod:`~fimi.testbed.fleet.check`  whether a fleet is ready for a long run
* :mod:`~fimi.testbed.fleet.probing`  the way to a board and the broker, tried
* :mod:`~fimi.testbed.fleet.estimate`  what a run would take
* :mod:`~fimi.testbed.fleet.logs`  the last lines of a board's log
* :mod:`~fimi.testbed.fleet.calibrate`  boards calibrate themselves; what they find is kept
* :mod:`~fimi.testbed.fleet.credentials`  who has credentials, and until when
* :mod:`~fimi.testbed.fleet.restart`  an agent leaves in order and comes back
* :mod:`~fimi.testbed.fleet.home_assistant`  boards are announced to Home Assistant
* :mod:`~fimi.testbed.fleet.update`  a signed wheel is sent to boards, which try it
"""
