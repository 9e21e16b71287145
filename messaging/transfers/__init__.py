"""Large payloads: named by digest, chunked, pulled by the receiver, verified.

* :mod:`~fimi.messaging.transfers.exchange`    all transfers of a peer, in both directions
* :mod:`~fimi.messaging.transfers.fetching`    the receiver's side
* :mod:`~fimi.messaging.transfers.download`    one payload on its way
* :mod:`~fimi.messaging.transfers.receipts`  who is to be told that a payload is here
* :mod:`~fimi.messaging.transfers.carrier`     what transfers use of their peer
* :mod:`~fimi.messaging.transfers.collecting`  many payloads at once, without waiting for one
* :mod:`~fimi.messaging.transfers.serving`     the holder's side: the payloads that a peer serves
* :mod:`~fimi.messaging.transfers.assembly`    which blocks to ask for, and what has come
* :mod:`~fimi.messaging.transfers.window`      how much at once, and how long to wait: the link
* :mod:`~fimi.messaging.transfers.parts`       where a payload is put together; resumed from files
* :mod:`~fimi.messaging.transfers.turns`       what a holder is asked for, in turn for everybody
* :mod:`~fimi.messaging.transfers.stream`      one payload for many at once
* :mod:`~fimi.messaging.transfers.blocks`      a payload as blocks
* :mod:`~fimi.messaging.transfers.buffers`     memory for chunks, used again
* :mod:`~fimi.messaging.transfers.pacing`      sending at a rate
* :mod:`~fimi.messaging.transfers.wire`        messages and chunks as bytes, and their checks
"""
