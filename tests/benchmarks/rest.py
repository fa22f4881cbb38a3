"""What the product costs while nobody uses it."""

import time

from tests.benchmarks.stack import Stack
from tests.benchmarks.table import Row

_SETTLE_SECONDS = 3.0


def at_rest(stack: Stack, seconds: float = 10) -> list[Row]:
    """CPU of every process over `seconds`, and its memory; then the totals."""
    time.sleep(_SETTLE_SECONDS)
    processes = stack.processes()
    before = {process: process.cpu_seconds() for process in processes}
    began = time.perf_counter()
    time.sleep(seconds)
    took = time.perf_counter() - began
    rows, total_cpu, total_rss, total_pss = [], 0.0, 0, 0
    for process in processes:
        cpu = (process.cpu_seconds() - before[process]) / took * 100
        rss, pss = process.rss_bytes(), process.pss_bytes()
        total_cpu, total_rss, total_pss = total_cpu + cpu, total_rss + rss, total_pss + pss
        memory = f"RSS {rss / 1e6:.0f} MB, PSS {pss / 1e6:.0f} MB"
        rows.append(Row(f"idle CPU: `{process.title}`", cpu, "% of a core", 1, note=memory))
    memory = f"RSS {total_rss / 1e6:.0f} MB, PSS {total_pss / 1e6:.0f} MB"
    rows.append(
        Row(
            f"idle CPU, all {len(processes)} processes over {seconds:g} s",
            total_cpu,
            "% of a core",
            1,
            note=memory,
        )
    )
    rows.append(Row("memory at rest, all processes (PSS)", total_pss / 1e6, "MB", 1))
    return rows


def start(stack: Stack) -> Row:
    """From the command until the API says it is ready."""
    return Row("`sandbox up` → ready", stack.start_seconds, "s", 1)
