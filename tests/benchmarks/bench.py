"""`make bench`: measures the product beside the Docker command in one run and prints a table.

Figures of different runs or machines do not compare; the ratios do. Nothing is asserted about time.
"""

import argparse
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from functools import partial

from tests.benchmarks import (
    access,
    agent,
    api,
    cancel,
    disk,
    egress,
    isolation,
    latency,
    listing,
    output,
    placement,
    rest,
    servers,
    streams,
    throughput,
)
from tests.benchmarks.stack import BenchmarkFailed, Stack, running_stack
from tests.benchmarks.table import Row, render

Topic = Callable[[Stack, bool], list[Row]]
StoreTopic = Callable[[bool], list[Row]]

# In this order: rest before load, and the submissions, which leave thousands of pending tasks, last.
TOPICS: dict[str, Topic] = {
    "rest": lambda stack, quick: [rest.start(stack), *rest.at_rest(stack, 3 if quick else 10)],
    "disk": lambda stack, quick: disk.task_disk(stack.image, 5 if quick else 30),
    "isolation": lambda stack, quick: [
        *isolation.no_op_tasks(stack, 5 if quick else 30),
        isolation.seccomp(stack.image, 5 if quick else 30),
    ],
    "egress": lambda stack, quick: egress.way_out(
        stack.image, 2 if quick else 5, 100_000_000 if quick else 500_000_000
    ),
    "latency": lambda stack, quick: [
        latency.noop_task(stack, 5 if quick else 30),
        latency.printed_line(stack, 20 if quick else 60),
    ],
    "throughput": lambda stack, quick: [throughput.noop_tasks_at_once(stack, 20 if quick else 100)],
    "output": lambda stack, quick: output.loud_task(stack, 20_000_000 if quick else 200_000_000),
    "cancel": lambda stack, quick: cancel.forced_cancel(stack, 3 if quick else 12),
    "api": lambda stack, quick: api.submissions(stack, 1 if quick else 5),
}

# These need no running product: they fill stores of their own, or start one with settings of its own.
STORE_TOPICS: dict[str, StoreTopic] = {
    "agent": agent.around_the_command_line,
    "streams": streams.many_readers,
    "placement": placement.rounds,
    "listing": listing.pages,
    "access": access.requests,
}
SERVERS = "servers"
ALL = (*TOPICS, SERVERS, *STORE_TOPICS)


def main() -> int:
    """Run the chosen topics; answers 1 when one of them gave no figure."""
    options = _options()
    print(f"# Benchmark\n\n{_machine()}, image {options.image}\n")
    rows: list[Row] = []
    failures: list[str] = []

    def measure(name: str, topic: StoreTopic) -> None:
        print(f"measuring: {name}", file=sys.stderr)
        try:
            rows.extend(topic(options.quick))
        except BenchmarkFailed as error:
            failures.append(f"- {name}: no figure: {error}")

    stacked = [name for name in options.only if name in TOPICS]
    if stacked:
        with running_stack(options.image) as stack:
            for name in stacked:
                measure(name, partial(TOPICS[name], stack))
    if SERVERS in options.only:
        measure(SERVERS, lambda quick: servers.beside_embedded(options.image, 20 if quick else 100))
    for name in options.only:
        if name in STORE_TOPICS:
            measure(name, STORE_TOPICS[name])
    print(render(rows))
    if failures:
        print("\n" + "\n".join(failures))
    return 1 if failures else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", default="sandbox/basic:latest", help="image of the tasks and of docker run")
    parser.add_argument("--only", default=list(ALL), type=_topics, help=f"comma list of {', '.join(ALL)}")
    parser.add_argument("--quick", action="store_true", help="a few samples each, to see that everything runs")
    return parser.parse_args()


def _topics(text: str) -> list[str]:
    chosen = text.split(",")
    unknown = [name for name in chosen if name not in ALL]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(ALL)}")
    return [name for name in ALL if name in chosen]


def _machine() -> str:
    engine = subprocess.run(
        ["docker", "version", "--format", "{{.Server.Version}}"], check=True, capture_output=True, text=True
    ).stdout.strip()
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    kernel, python = platform.release(), platform.python_version()
    return f"{os.cpu_count()} CPUs, {memory_gb:.0f} GB, kernel {kernel}, Docker {engine}, Python {python}"


if __name__ == "__main__":
    sys.exit(main())
