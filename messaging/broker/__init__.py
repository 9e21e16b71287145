"""The broker for one machine: mosquitto, else amqtt, in its own process.

* :mod:`~fimi.messaging.broker.embedded`        starts and ends it, and sets its password
* :mod:`~fimi.messaging.broker.of_fleet`        runs that of a fleet's folder
* :mod:`~fimi.messaging.broker.mosquitto_main`  the child process that runs mosquitto
* :mod:`~fimi.messaging.broker.amqtt_main`      the child process that runs amqtt
* :mod:`~fimi.messaging.broker.passwords`       passwords as mosquitto stores them
* :mod:`~fimi.messaging.broker.orders`          what the child process is told
"""
