"""A1: the table of tricks, made by a task in its sandbox: what is no regular file with a printable name is not stored.

One trick at a time, without an engine: tests/unit/test_collect.py.
"""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.e2e.submitting import raw_output
from tests.security.artifacts.leaving import leave, refused, stored

pytestmark = pytest.mark.docker

PROGRAM = r"""
import os, stat
os.symlink("/etc/shadow", "link-absolute")
os.symlink("FOREIGN", "link-foreign")
os.symlink("../" * 30 + "FOREIGN".lstrip("/"), "link-relative")
os.symlink("/", "link-directory")
os.symlink("link-loop", "link-loop")
os.mkfifo("fifo")
for name, make in {
    "hard link to a file of the host": lambda: os.link("/etc/hosts", "hard-foreign"),
    "device": lambda: os.mknod("device", stat.S_IFCHR | 0o666, os.makedev(1, 5)),
}.items():
    try:
        make()
        print(name, "made")
    except OSError as error:
        print(name, "impossible")
open("plain", "w").write("plain\n")
os.link("plain", "hard-own")
with open("sparse", "w") as file:
    file.truncate(1 << 40)
here = os.getcwd()
for level in range(300):
    os.mkdir("d"); os.chdir("d")
    if level in (10, 290):
        open(f"at-{level}", "w").close()
os.chdir(here)
unprintable = b"line\nend", b"head\r\nX-Evil: 1", "a\u202etxt.exe".encode(), b"\xff\xfe", b"\x1b[31m"
for name in (*unprintable, b"..\\..\\win.txt"):
    open(name, "w").close()
for name in ("n" * 255, "-rf", "%2e%2e%2f", "<img onerror=alert(1)>", 'a";filename=b', "CON", "metadata.json"):
    open(name, "w").write(name)
open("closed", "w").write("closed")
os.chmod("closed", 0)
"""
KEPT = ("n" * 255, "-rf", "%2e%2e%2f", "<img onerror=alert(1)>", 'a";filename=b', "CON", "metadata.json", "closed")
NO_FILES = ("link-absolute", "link-foreign", "link-relative", "link-directory", "link-loop", "fifo")
UNPRINTABLE = (r"line\x0aend", r"head\x0d\x0aX-Evil: 1", r"a\xe2\x80\xaetxt.exe", r"\xff\xfe", r"\x1b[31m")


def test_a1_every_trick_of_the_table_is_refused_by_name_and_costs_no_other_artifact(
    api: httpx.Client, foreign: Path
) -> None:
    task = leave(api, PROGRAM.replace("FOREIGN", str(foreign)))
    assert task["state"] == "completed", task["outcome"]
    assert raw_output(api, task["id"]).decode().splitlines() == [
        "hard link to a file of the host impossible",
        "device impossible",
    ]
    expected = {name: name.encode() for name in KEPT}
    expected |= {"plain": b"plain\n", "hard-own": b"plain\n", "d/" * 11 + "at-10": b""}
    assert stored(api, task) == expected
    why = refused(api, task)
    for name in NO_FILES:
        assert why.pop(name).endswith("only regular files are collected"), name
    for name in UNPRINTABLE:
        assert why.pop(name) == "its name is not printable UTF-8", name
    assert "backslash" in why.pop(r"..\..\win.txt")
    assert why.pop("sparse").startswith("larger than the ")
    [(deep, reason)] = why.items()
    assert deep.startswith("d/d/d")
    assert reason == "directories below depth 64 are not collected"
