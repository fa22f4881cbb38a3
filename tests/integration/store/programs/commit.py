"""Append one record to the task given in the store at the URL given, for each line that comes in."""

import sys

from orchestrator import clock, journal
from orchestrator.models import Claim, Kind, NewRecord
from orchestrator.store.database import Database

url, task_id, attempt, fence = sys.argv[1:]
database = Database(url)
for _line in sys.stdin:
    with database.write() as tx:
        record = NewRecord(Kind.SYSTEM, clock.now(), "system", {"message": "from another process"})
        journal.append(tx, Claim(task_id, int(attempt), int(fence)), [record])
    print("committed", flush=True)
