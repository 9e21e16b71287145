"""Messages and large payloads between the processes, over MQTT.

Messages

* :mod:`~fimi.messaging.topics`    topics, and who may publish on which
* :mod:`~fimi.messaging.messages`  the types of all messages

Questions of people to boards

* :mod:`~fimi.messaging.questions`  the types of questions and replies, and a board's status
* :mod:`~fimi.messaging.console`    asks: :class:`~fimi.messaging.console.Console`
* :mod:`~fimi.messaging.forgetting`  lets a broker forget a peer that was put away

A peer's connection

* :mod:`~fimi.messaging.client`    sends and receives typed messages:
  :class:`~fimi.messaging.client.Peer`
* :mod:`~fimi.messaging.address`   address and credentials of the broker
* :mod:`~fimi.messaging.bundle`    one file with all credentials of a peer
* :mod:`~fimi.messaging.link`      one MQTT connection, as bytes on topics
* :mod:`~fimi.messaging.pulse`     whether it is alive in both directions
* :mod:`~fimi.messaging.traffic`   what the operating system knows of it
* :mod:`~fimi.messaging.backoff`   when to try again, with jitter
* :mod:`~fimi.messaging.identity`  takes, keeps and loses a peer id
* :mod:`~fimi.messaging.tls`       which authority is trusted, which certificate is shown
* :mod:`~fimi.messaging.access`    whether the broker's rules let a peer write where it has to
* :mod:`~fimi.messaging.roles`     what a peer may be and say, by where it writes
* :mod:`~fimi.messaging.leases`    who may use a peer id, and who of two yields
* :mod:`~fimi.messaging.reservation`  one study at a time on a fleet
* :mod:`~fimi.messaging.documents` retained messages of which the latest counts
* :mod:`~fimi.messaging.outbox`    messages that the broker has not confirmed yet
* :mod:`~fimi.messaging.telemetry` what devices say of themselves many times a minute
* :mod:`~fimi.messaging.presence`  which other peers are online
* :mod:`~fimi.messaging.limits`    what a broker grants, and what follows where it is little
* :mod:`~fimi.messaging.mailbox`   what has come and waits: bounded in bytes, fair among senders
* :mod:`~fimi.messaging.offenders`  who sends what cannot be used: counted, and set aside
* :mod:`~fimi.messaging.errors`    the errors of this package

Rooms

* :mod:`~fimi.messaging.transfers`  large payloads
* :mod:`~fimi.messaging.credentials`  who may be what: authority, access rules, bundles
* :mod:`~fimi.messaging.broker`     the broker for one machine

Imports :mod:`fimi.energy` and :mod:`fimi.learning` for the types in messages, and no process.
"""
