"""Read and remove directory trees that a stranger's code has written (isolation-and-faults.md §5.3).

Nothing of the task runs any more, and still: no link is ever followed, each entry is opened relative to its
directory's descriptor, what is opened is checked again by `fstat`, and no depth or name can break a step.
"""

from __future__ import annotations

import errno
import itertools
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

MAX_DEPTH = 64

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # never a link, never waiting for a pipe


class Refused(Exception):
    """This entry is no file that may be read; the message says why."""


def open_directory(path: Path) -> int:
    """Return a descriptor of a directory, never through a link at its end; the caller closes it."""
    return os.open(path, _DIRECTORY)


def walk(top: Path, *, wanted: Callable[[str], bool], refuse: Callable[[str, str], None]) -> Iterator[tuple[str, int]]:
    """Yield (relative path, descriptor of its directory) of every entry that is no directory, in a fixed order.

    Only directories that are `wanted` are looked into; one that cannot be, `top` too (as "."), is given to `refuse`
    with the reason.
    """
    try:
        descriptor = open_directory(top)
    except OSError as error:
        refuse(".", f"the workspace cannot be opened: {error.strerror}")
        return
    yield from _below(descriptor, "", 0, wanted, refuse)


def _below(
    descriptor: int, prefix: str, depth: int, wanted: Callable[[str], bool], refuse: Callable[[str, str], None]
) -> Iterator[tuple[str, int]]:
    """Closes `descriptor`."""
    try:
        try:
            with os.scandir(descriptor) as entries:
                kinds = sorted((entry.is_dir(follow_symlinks=False), entry.name) for entry in entries)
        except OSError as error:
            refuse(prefix or ".", f"it cannot be listed: {error.strerror}")
            return
        for is_directory, name in kinds:
            path = prefix + name
            if not is_directory:
                yield path, descriptor
            elif not wanted(path):
                continue
            elif depth == MAX_DEPTH:
                refuse(path, f"directories below depth {MAX_DEPTH} are not collected")
            else:
                try:
                    child = os.open(name, _DIRECTORY, dir_fd=descriptor)
                except OSError as error:
                    refuse(path, f"it cannot be opened: {error.strerror}")
                    continue
                yield from _below(child, f"{path}/", depth + 1, wanted, refuse)
    finally:
        os.close(descriptor)


def open_regular(name: str, directory: int) -> BinaryIO:
    """Open a regular file of a directory, nothing else. Raises `Refused`."""
    try:
        _check_kind(os.stat(name, dir_fd=directory, follow_symlinks=False))  # opening a device may already act on it
        descriptor = os.open(name, _FILE, dir_fd=directory)
    except OSError as error:
        what = "a symbolic link" if error.errno == errno.ELOOP else f"it cannot be read ({error.strerror})"
        raise Refused(f"{what}; only regular files are collected") from error
    try:
        _check_kind(os.fstat(descriptor))
    except Refused:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
    stat.S_IFDIR: "a directory",
}


def _check_kind(found: os.stat_result) -> None:
    kind = stat.S_IFMT(found.st_mode)
    if kind != stat.S_IFREG:
        raise Refused(f"{_KINDS.get(kind, 'a special file')}; only regular files are collected")


def remove(top: Path) -> None:
    """Remove a directory and all below it, or a file; harmless when it is not there.

    A task may nest directories deeper than any stack or path: each one found is first moved up into `top`, so one
    level is open at a time. `top` itself belongs to the product: no name in it was chosen by a task. Raises `OSError`,
    and removes nothing of it, where another file system is mounted below.
    """
    try:
        root = open_directory(top)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        top.unlink()
        return
    try:
        names = (f".removed-{secrets.token_hex(4)}-{number}" for number in itertools.count())
        with os.scandir(root) as entries:
            pending = [entry.name for entry in entries]
        while pending:
            pending += _remove_entry(pending.pop(), root, names)
    finally:
        os.close(root)
    top.rmdir()


def _remove_entry(name: str, root: int, names: Iterator[str]) -> list[str]:
    """Remove one entry of `root`; return the directories that were in it, under their new names in `root`."""
    found = os.stat(name, dir_fd=root, follow_symlinks=False)
    if not stat.S_ISDIR(found.st_mode):
        os.unlink(name, dir_fd=root)
        return []
    if found.st_dev != os.fstat(root).st_dev:
        raise OSError(errno.EBUSY, "another file system is mounted here; unmount it first", name)
    moved = []
    _unlock(name, root)
    directory = os.open(name, _DIRECTORY, dir_fd=root)
    try:
        with os.scandir(directory) as entries:
            kinds = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for inner, is_directory in kinds:
            if not is_directory:
                os.unlink(inner, dir_fd=directory)
                continue
            moved.append(next(names))
            _unlock(inner, directory)  # to move a directory is to write its `..`
            os.rename(inner, moved[-1], src_dir_fd=directory, dst_dir_fd=root)
    finally:
        os.close(directory)
    os.rmdir(name, dir_fd=root)
    return moved


def _unlock(name: str, directory: int) -> None:
    """A task may leave directories without permissions; a worker that is not root, their owner, opens them."""
    if os.geteuid() != 0:
        with suppress(PermissionError):
            os.chmod(name, stat.S_IRWXU, dir_fd=directory)
