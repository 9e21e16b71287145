"""What travels between the processes, and how.

What is said

* :mod:`~fimi.messaging.topics`    who may publish what where
* :mod:`~fimi.messaging.messages`  the types of all messages

A peer's connection

* :mod:`~fimi.messaging.client`  typed messages in, typed messages out:
  :class:`~fimi.messaging.client.Peer`
* :mod:`~fimi.messaging.address`   where the broker is and how to get in
* :mod:`~fimi.messaging.link`  one MQTT connection as bytes on topics; what the broker has not
  confirmed yet
* :mod:`~fimi.messaging.outbox`    what was sent and the broker has not confirmed yet
* :mod:`~fimi.messaging.presence`  which other peers are there
* :mod:`~fimi.messaging.errors`    everything that can go wrong

Rooms

* :mod:`~fimi.messaging.transfers`  large payloads
* :mod:`~fimi.messaging.broker`     the broker for one machine

Imports :mod:`fimi.energy` and :mod:`fimi.learning` for the types it carries, and none of the
processes.
"""
