"""Large payloads: named by digest, chunked, pulled by the receiver, verified.

* :mod:`~fimi.messaging.transfers.exchange`  serving, and fetching for the caller
* :mod:`~fimi.messaging.transfers.fetching`  the receiver's side
* :mod:`~fimi.messaging.transfers.serving`   the sender's side: what a peer serves
* :mod:`~fimi.messaging.transfers.chunks`    cutting up and putting together
* :mod:`~fimi.messaging.transfers.pacing`    sending at a rate
* :mod:`~fimi.messaging.transfers.wire`  messages and chunks as bytes, and which of them are valid
"""
