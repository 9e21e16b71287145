"""Passwords as Mosquitto stores them.

Source: the format ``$7$`` of ``mosquitto_passwd`` of Mosquitto 2.0: PBKDF2-HMAC-SHA512, as
``$7$iterations$salt$hash``, both in base64.
"""

from __future__ import annotations

import base64
import hashlib

ITERATIONS = 101
"""Mosquitto's own default; it is enough where passwords are 256 random bits."""


def password_hash(password: str, salt: bytes) -> str:
    """A password for mosquitto's password file."""
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS)
    parts = (base64.b64encode(salt).decode(), base64.b64encode(digest).decode())
    return f"$7${ITERATIONS}${parts[0]}${parts[1]}"
