"""What travels between the processes, and how.

What is said:

* :mod:`messaging.topics`     who may say what where
* :mod:`messaging.messages`   the types of everything that is said
* :mod:`messaging.wire`       their bytes, and which of them can be believed

A peer's connection:

* :mod:`messaging.client`     typed messages in, typed messages out: :class:`~client.Peer`
* :mod:`messaging.address`    where the broker is and how to get in
* :mod:`messaging.link`       one MQTT connection as bytes on topics
* :mod:`messaging.outbox`     what the broker has not confirmed yet
* :mod:`messaging.presence`   who else is there
* :mod:`messaging.errors`     everything that can go wrong

Large payloads, digest-named, chunked, pulled by the receiver, verified:

* :mod:`messaging.transfers`  serving, and fetching for its caller
* :mod:`messaging.fetching`   the asker's side
* :mod:`messaging.chunks`     cutting up and putting together
* :mod:`messaging.shelf`      what a peer serves
* :mod:`messaging.pacing`     sending at a rate

The broker for one machine:

* :mod:`messaging.broker`     mosquitto, else amqtt, in its own process
* :mod:`messaging.mosquitto_main`, :mod:`messaging.amqtt_main`, :mod:`messaging.guard`  its child

Imports :mod:`energy` and :mod:`learning` for the types it carries, and none of the processes.
"""
