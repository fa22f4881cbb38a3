"""Follow one task, or all, over server-sent events: states and output, across restarts of the server."""

import argparse
import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

ENDS = {"completed": 0, "failed": 1, "failed_preserved": 1, "cancelled": 1}
HEARTBEAT_SECONDS = 10


def frames(server, token, query):
    """Yield frame after frame, for ever; after a cut go on behind the last one that was yielded."""
    headers = {"Accept": "text/event-stream", **({"Authorization": f"Bearer {token}"} if token else {})}
    while True:
        address = f"{server}/api/v1/tasks/stream?{urllib.parse.urlencode(query)}"
        request = urllib.request.Request(address, headers=headers)  # noqa: S310 - the address is the user's own
        try:
            with urllib.request.urlopen(request, timeout=3 * HEARTBEAT_SECONDS) as answer:  # noqa: S310
                for line in answer:  # an event's data is one line; its id is in there, too
                    if line.startswith(b"data: ") and line.endswith(b"\n"):
                        frame = json.loads(line[6:])
                        yield frame
                        query = {**query, "after": frame["id"]} if frame["id"] else query
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code != 429:
                sys.exit(f"{server} refuses: {error.read().decode()}")
            print(f"no connection to {server} (does it run?), trying again: {error}", file=sys.stderr)
        time.sleep(1)


options = argparse.ArgumentParser(description=__doc__)
options.add_argument("task", nargs="?", help="a task's id; without one, all that changes from now on")
options.add_argument("--server", default=os.environ.get("SANDBOX_SERVER", "http://localhost:8122"))
options.add_argument("--token", default=os.environ.get("SANDBOX_TOKEN"))
told = options.parse_args()
wanted = {"filter": "state_change,output", "heartbeat_interval_ms": HEARTBEAT_SECONDS * 1000}
for one in frames(told.server, told.token, wanted | ({"task_id": told.task, "after": "0"} if told.task else {})):
    if one["type"] == "state_change":
        print(f"{one['task_id']}: {one['new_state']} {one['state_message'] or ''}", flush=True)
        if told.task and one["new_state"] in ENDS:
            sys.exit(ENDS[one["new_state"]])
    elif one["type"] == "output":  # it may hold anything: what could repaint the terminal is not printed
        print("".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in one["data"]), end="", flush=True)
