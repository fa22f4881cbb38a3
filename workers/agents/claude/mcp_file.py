"""The file that tells the agent its MCP servers (pure). It may hold secrets: it belongs where only the agent reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", re.ASCII)
_WITH_SECRETS = ("env", "headers")


def mcp_file(config: Mapping[str, Any], secrets: Mapping[str, str]) -> str:
    """`claude.mcp_config` with the values of `secrets` in place of `${NAME}`, where these are allowed.

    The agent itself replaces `${NAME}` once more, by its own variables: in a secret's value, too.
    """
    servers = {name: _server(server, secrets) for name, server in config["mcpServers"].items()}
    return json.dumps({**config, "mcpServers": servers})


def _server(server: Mapping[str, Any], secrets: Mapping[str, str]) -> dict[str, Any]:
    filled = {
        name: {key: _filled(one, secrets) for key, one in value.items()} if name in _WITH_SECRETS else value
        for name, value in server.items()
    }
    # Without a type the agent takes a server for a program, and skips one that has only an address.
    return {"type": "http", **filled} if "url" in server else filled


def _filled(value: object, secrets: Mapping[str, str]) -> object:
    if not isinstance(value, str):
        return value
    return _REFERENCE.sub(lambda found: secrets.get(found[1], found[0]), value)
