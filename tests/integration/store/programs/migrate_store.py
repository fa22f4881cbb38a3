"""Migrate the store at the URL given, at the moment a line comes in, and print its installation id."""

import sys

from orchestrator.store.database import Database
from orchestrator.store.migrate import migrate

print("ready", flush=True)
sys.stdin.readline()
database = Database(sys.argv[1])
migrate(database)
print(database.installation_id(), flush=True)
