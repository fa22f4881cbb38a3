"""Where a sandbox finds the model API: on its own loopback."""

from __future__ import annotations

MODEL_PORT = 3129
BASE_URL = f"http://127.0.0.1:{MODEL_PORT}"
