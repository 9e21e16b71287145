"""Large payloads: named by digest, chunked, pulled by the receiver, verified.

* :mod:`~fimi.messaging.transfers.exchange`    all transfers of a peer, in both directions
* :mod:`~fimi.messaging.transfers.fetching`    the receiver's side
* :mod:`~fimi.messaging.transfers.collecting`  many payloads at once, without waiting for one
* :mod:`~fimi.messaging.transfers.serving`     the holder's side: the payloads that a peer serves
* :mod:`~fimi.messaging.transfers.chunks`      dividing a payload into chunks and assembling it
* :mod:`~fimi.messaging.transfers.pacing`      sending at a rate
* :mod:`~fimi.messaging.transfers.wire`        messages and chunks as bytes, and their checks
"""
