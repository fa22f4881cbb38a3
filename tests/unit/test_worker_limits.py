"""What a worker's process may use: enough descriptors for the connections of its sandboxes, and no core on a disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

START = """
import resource, sys
from pathlib import Path
from orchestrator.settings import load
from workers.service import serve
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 512))
missing = Path(sys.argv[1]) / "registries.json"
try:
    serve(load({"SANDBOX_REGISTRY_CONFIG": str(missing)}, data_dir=Path(sys.argv[1])))
except Exception as error:
    print(type(error).__name__, resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_CORE))
"""


def test_a_worker_takes_all_the_descriptors_it_may_have_and_leaves_no_core(tmp_path: Path) -> None:
    started = subprocess.run(
        [sys.executable, "-c", START, str(tmp_path)], capture_output=True, text=True, check=True, timeout=120
    )
    assert started.stdout == "UnusableRegistryConfig (512, 512) (0, 0)\n"
