"""The event stream: what happens to all tasks, as it happens, by SSE and WebSocket (contract §6)."""
