"""Names of the tests' own internet, for the processes of a product under test.

A directory with this file on PYTHONPATH stands for what an operator would write into /etc/hosts; that file belongs to
the machine and other tests. TEST_HOST_NAMES is a JSON object: name → list of addresses. Other names are asked as ever.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any

_NAMES: dict[str, list[str]] = json.loads(os.environ.get("TEST_HOST_NAMES", "{}"))
_ask = socket.getaddrinfo


def _getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
    if host in _NAMES:
        return [found for address in _NAMES[host] for found in _ask(address, port, *args, **kwargs)]
    return _ask(host, port, *args, **kwargs)


socket.getaddrinfo = _getaddrinfo
