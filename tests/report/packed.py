"""What a browser unpacks from a page."""

from __future__ import annotations

import base64
import gzip
import json
import re
from typing import Any


def pictures_of(page: str) -> dict[str, Any]:
    """The pictures of a page, by name."""
    found = re.search(r'id="figures">([^<]*)<', page)
    assert found is not None, "the page has no pictures"
    figures: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(found[1])))["figures"]
    return figures
