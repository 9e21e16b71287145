"""Messages and large payloads between the processes, over MQTT.

Messages

* :mod:`~fimi.messaging.topics`    topics, and who may publish on which
* :mod:`~fimi.messaging.messages`  a room: the types of all messages

Questions of people to boards

* :mod:`~fimi.messaging.questions`  the types of questions and replies, and a board's status
* :mod:`~fimi.messaging.console`    asks: :class:`~fimi.messaging.console.Console`
* :mod:`~fimi.messaging.farewell`    says goodbye in the place of peers whose credentials have ended
* :mod:`~fimi.messaging.retained`    what a broker keeps, heard by somebody who is no peer
* :mod:`~fimi.messaging.forgetting`  lets a broker forget a peer that was put away
* :mod:`~fimi.messaging.home_assistant`  boards as devices of Home Assistant

A peer's connection

* :mod:`~fimi.messaging.client`    sends and receives typed messages:
  :class:`~fimi.messaging.client.Peer`
* :mod:`~fimi.messaging.outgoing`  what goes out
* :mod:`~fimi.messaging.reception` what comes in, kind by kind
* :mod:`~fimi.messaging.letters`   what has come and waits, as the bytes in which it came
* :mod:`~fimi.messaging.heartbeat` what comes round: heartbeats, and who has fallen silent
* :mod:`~fimi.messaging.own_state` how a peer shows itself: birth, heartbeat, goodbye, last will
* :mod:`~fimi.messaging.notice`    what a peer says of itself in its lease
* :mod:`~fimi.messaging.link_carrier`   how transfers travel over a peer's connection
* :mod:`~fimi.messaging.size_trial`  whether the broker drops larger messages
* :mod:`~fimi.messaging.address`   address and credentials of the broker
* :mod:`~fimi.messaging.bundle`    one file with all credentials of a peer
* :mod:`~fimi.messaging.link`      one MQTT connection, as bytes on topics
* :mod:`~fimi.messaging.pulse`     whether it is alive in both directions
* :mod:`~fimi.messaging.paho_clients`  the clients of paho-mqtt: made, opened, dropped
* :mod:`~fimi.messaging.refusals`  why a broker does not let a client in, in words
* :mod:`~fimi.messaging.grants`    what the broker of a link grants, as it becomes known
* :mod:`~fimi.messaging.confirmations`  which messages the broker has refused
* :mod:`~fimi.messaging.socket_pacing`  the rate to which the kernel holds the connection
* :mod:`~fimi.messaging.traffic`   what the operating system knows of it
* :mod:`~fimi.messaging.backoff`   when to try again, with jitter
* :mod:`~fimi.messaging.identity`  takes, keeps and loses a peer id
* :mod:`~fimi.messaging.tls`       which authority is trusted, which certificate is shown
* :mod:`~fimi.messaging.access`    whether the broker's rules let a peer write where it has to
* :mod:`~fimi.messaging.roles`     what a peer may be and say, by where it writes
* :mod:`~fimi.messaging.leases`    who may use a peer id, and who of two yields
* :mod:`~fimi.messaging.reservation`  one study at a time on a fleet
* :mod:`~fimi.messaging.kept_documents` retained messages of which the latest counts
* :mod:`~fimi.messaging.outbox`    messages that the broker has not confirmed yet
* :mod:`~fimi.messaging.telemetry` what devices say of themselves many times a minute
* :mod:`~fimi.messaging.looking`   whether anybody looks: else they say it seldom
* :mod:`~fimi.messaging.presence`  which other peers are online
* :mod:`~fimi.messaging.limits`    what a broker grants, and what follows where it is little
* :mod:`~fimi.messaging.mailbox`   a queue that is bounded in bytes and fair among senders
* :mod:`~fimi.messaging.offenders`  who sends what cannot be used: counted, and set aside
* :mod:`~fimi.messaging.allowances`  how often an honest peer may send what is of no use
* :mod:`~fimi.messaging.errors`    the errors of this package

Rooms

* :mod:`~fimi.messaging.transfers`  large payloads
* :mod:`~fimi.messaging.credentials`  who may be what: authority, access rules, bundles
* :mod:`~fimi.messaging.broker`     the broker for one machine

Imports :mod:`fimi.energy` and :mod:`fimi.learning` for the types in messages, and no process.
"""
