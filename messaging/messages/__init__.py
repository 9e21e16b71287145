"""The types of all messages between coordinator, generator node and edge agents.

A message is one JSON object; unknown fields are refused.

* :mod:`~fimi.messaging.messages.basis`      what they are made of; offers of payloads
* :mod:`~fimi.messaging.messages.peers`      what a peer says of itself: state, telemetry, lease
* :mod:`~fimi.messaging.messages.orders`     what the coordinator wants of a device
* :mod:`~fimi.messaging.messages.facts`      what a device has to tell
* :mod:`~fimi.messaging.messages.documents`  the two documents that hold orders and facts
* :mod:`~fimi.messaging.messages.synthesis`  what coordinator and generator node say to each other
* :mod:`~fimi.messaging.messages.every`      every message that travels by itself

Coordinator and device talk in two documents, which the broker keeps. Coordinator and generator node
send each other plain messages. Large payloads never travel in a message: a message names them by an
offer, and the receiver pulls them (:mod:`fimi.messaging.transfers.exchange`). Beside all that, a
device may say at a steady rate how it is, for which nothing waits.

What people ask boards, and what these answer, is in :mod:`fimi.messaging.questions`.
"""
