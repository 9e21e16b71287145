"""The broker for one machine: mosquitto, else amqtt, in its own process.

* :mod:`~fimi.messaging.broker.embedded`        starting it, its password, its end
* :mod:`~fimi.messaging.broker.mosquitto_main`  the child process around mosquitto
* :mod:`~fimi.messaging.broker.amqtt_main`      the child process that runs amqtt
* :mod:`~fimi.messaging.broker.orders`          what the child process is told
"""
