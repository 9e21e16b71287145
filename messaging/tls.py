"""TLS for a connection to a broker: which authority is trusted, and which certificate is shown.

* :func:`context`      settings of Python's ``ssl`` for an address
* :func:`trouble`      why a TLS connection was not possible, and what to do
* :func:`days_left`    until the day on which a certificate ends

Python reads certificates and private keys from files only. Those of a bundle are put into a file
without a name, in memory where the system has that (Linux), else into one that nobody else can
read and that is removed at once.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import tempfile
import time
from collections.abc import Iterator
from datetime import date, datetime, timezone
from pathlib import Path

from fimi.messaging.address import BrokerAddress
from fimi.messaging.errors import BrokerError, ClockBehind

_NOT_YET = 9
"""``X509_V_ERR_CERT_NOT_YET_VALID`` of OpenSSL."""

WARN_DAYS = 30
"""So long before its end a certificate is warned of, days."""


def context(where: BrokerAddress) -> ssl.SSLContext:
    """The settings for a connection to a broker.

    Raises:
        BrokerError: a file is missing, or holds no certificate or key.
    """
    try:
        made = ssl.create_default_context(cafile=where.ca_path, cadata=where.ca_pem or None)
    except FileNotFoundError as error:
        raise BrokerError(
            f"{where}: the ca file {where.ca_path!r} does not exist", code="B004"
        ) from error
    except (OSError, ValueError) as error:  # of ssl, too
        what = f"the ca file {where.ca_path!r}" if where.ca_path else "ca_pem of its bundle"
        raise BrokerError(f"{where}: {what} holds no certificate ({error})", code="B004") from error
    if not where.has_certificate:
        return made
    try:
        if where.cert_path:
            made.load_cert_chain(where.cert_path, where.key_path)
        else:
            with _without_name(where.cert_pem + "\n" + where.key_pem) as path:
                made.load_cert_chain(path)
    except FileNotFoundError as error:
        named = f"{where.cert_path!r} or {where.key_path!r}"
        raise BrokerError(f"{where}: {named} does not exist", code="B004") from error
    except (OSError, ValueError) as error:
        raise BrokerError(
            f"{where}: its certificate and private key cannot be used ({error}); they must be PEM, "
            "belong together, and have no passphrase",
            code="B004",
        ) from error
    return made


@contextlib.contextmanager
def _without_name(text: str) -> Iterator[str]:
    """The path of a file with this text, for as long as the block lasts."""
    if hasattr(os, "memfd_create"):
        with contextlib.suppress(OSError):  # a kernel may forbid it
            handle = os.memfd_create("fimi-key", os.MFD_CLOEXEC)
            with os.fdopen(handle, "wb") as file:
                file.write(text.encode())
                file.flush()
                yield f"/proc/self/fd/{handle}"
            return
    handle, name = tempfile.mkstemp(prefix="fimi-")  # mode 600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())
        yield name
    finally:
        Path(name).unlink()


def trouble(where: BrokerAddress, error: ssl.SSLError) -> BrokerError:
    """Why there is no TLS connection, and what to do."""
    behind = isinstance(error, ssl.SSLCertVerificationError) and error.verify_code == _NOT_YET
    return (ClockBehind if behind else BrokerError)(_in_words(where, error))


def _in_words(where: BrokerAddress, error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        said = error.verify_message
        if "mismatch" in said:
            return (
                f"{where}: the broker's certificate is for another name or address ({said}); use "
                f"one that it names, or issue it anew: fimi fleet rotate broker --host {where.host}"
            )
        if error.verify_code == _NOT_YET:
            return (
                f"{where}: the broker's certificate is not valid yet; the clock of this machine "
                f"says {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC: set it"
            )
        if "expired" in said:
            return (
                f"{where}: the broker's certificate has expired, by the clock of this machine "
                f"({time.strftime('%Y-%m-%d', time.gmtime())}); issue it anew: fimi fleet rotate "
                "broker"
            )
        return (
            f"{where}: the broker's certificate is of an authority that is not trusted here "
            f"({said}); name its ca file (mqtts://…?ca=FILE), or use the bundle of this fleet"
        )
    said = (error.reason or str(error)).replace("_", " ").lower()
    if "wrong version number" in said or "record layer failure" in said:
        return f"{where}: no TLS connection: no TLS is spoken there ({said}); check the port"
    return f"{where}: no TLS connection ({said}); check the ca file and the port"


def days_left(expires: str) -> int | None:
    """Days until a day such as ``2028-11-30``, negative afterwards; ``None`` for no such day."""
    try:
        return (date.fromisoformat(expires) - datetime.now(timezone.utc).date()).days
    except ValueError:
        return None
