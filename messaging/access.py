"""Whether a broker's access rules let a peer in: tried when it connects, before it says so.

A broker takes connections from whoever has a password, and drops what its rules forbid without a
word. MQTT 5 adds a reason to each confirmation; so a peer publishes, once, on a topic of each kind
of place where it will write, with nothing in it, and looks at the reasons. Nobody acts on that
(kind ``check``). That it reads what it sends to itself is seen when it takes its id
(:mod:`fimi.messaging.identity`).

A broker of MQTT 3.1.1 gives no reasons; then only what a peer sends to itself is tried.
"""

from __future__ import annotations

from fimi.messaging import topics
from fimi.messaging.errors import NotAuthorised
from fimi.messaging.link import Link
from fimi.messaging.messages.peers import Role
from fimi.messaging.roles import state_recipient
from fimi.messaging.topics import COORDINATOR


def written(fleet: str, peer: str, role: Role) -> tuple[str, ...]:
    """The topics on which a peer tries whether it may write, each once."""
    recipients = dict.fromkeys((peer, COORDINATOR, state_recipient(role)))
    return tuple(topics.topic(fleet, peer, recipient, "check") for recipient in recipients)


def check_access(link: Link, fleet: str, peer: str, role: Role, timeout_s: float) -> None:
    """Try whether a peer may write where it has to.

    Args:
        link: a connection with its credentials.
        fleet: name of the fleet.
        peer: its id.
        role: its role.
        timeout_s: how long the broker may take to confirm each; afterwards nothing is known of it,
            and nothing said.

    Raises:
        NotAuthorised: it may not; names the topics, and what to do.
    """
    places = written(fleet, peer, role)
    denied = [topic for topic in places if link.may_write(topic, timeout_s) is False]
    if denied:
        raise NotAuthorised(denied_in_words(link, peer, denied))


def denied_in_words(link: Link, peer: str, denied: list[str]) -> str:
    """That a peer may not write on topics, and what to do."""
    user = link.address.username
    named = " and ".join(topic.rsplit("/", 1)[0] + "/#" for topic in denied)
    if user and user != peer:
        cure = (
            f"take the credentials of {peer}, or the id {user} ('--id {user}'); a user is named "
            "like its peer"
        )
    else:
        cure = (
            "check the name of the fleet, and the broker's access rules: 'fimi fleet init' writes "
            "some (docs/security.md)"
        )
    who = f"user {user!r}" if user else "this client"
    return f"{link.address}: {who} may not write {named} as peer {peer!r}; {cure}"
