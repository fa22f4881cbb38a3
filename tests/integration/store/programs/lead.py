"""Take the reaper's lock of the store at the URL given, say whether it is held, and keep it until killed."""

import sys

from orchestrator.leadership import REAPER, leadership
from orchestrator.store.database import Database

with leadership(Database(sys.argv[1]), REAPER) as leading:
    print("leading" if leading() else "not leading", flush=True)
    sys.stdin.readline()
