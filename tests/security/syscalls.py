"""System calls that a sandbox's command tries, and what they answer (isolation-and-faults.md §3). Numbers of x86-64."""

from __future__ import annotations

import json
from dataclasses import dataclass

REFUSED = frozenset({"EPERM"})
OPEN = frozenset({"open"})


@dataclass(frozen=True)
class Row:
    """A call with its arguments, and what it may answer: an error's name, or `open`."""

    name: str
    number: int
    arguments: tuple[int, ...] = ()
    answers: frozenset[str] = REFUSED


ROWS = (
    # What the engine's own profile leaves open and ours does not (finding 14).
    Row("socket(AF_VSOCK)", 41, (40, 1, 0)),
    Row("io_uring_setup", 425, (8, 0)),
    Row("io_uring_enter", 426, (-1, 0, 0, 0)),
    Row("io_uring_register", 427, (-1, 0, 0, 0)),
    Row("name_to_handle_at", 303, (-1, 0, 0, 0, 0)),
    Row("process_vm_readv", 310, (1, 0, 0, 0, 0, 0)),
    Row("process_vm_writev", 311, (1, 0, 0, 0, 0, 0)),
    Row("adjtimex", 159, (0,)),
    # Namespaces and mounts.
    Row("unshare(user)", 272, (0x10000000,)),
    Row("unshare(net)", 272, (0x40000000,)),
    Row("unshare(mount)", 272, (0x00020000,)),
    Row("clone(user)", 56, (0x10000000, 0, 0, 0, 0)),
    Row("clone(mount)", 56, (0x00020000, 0, 0, 0, 0)),
    Row("clone3", 435, (0, 0), frozenset({"ENOSYS"})),
    Row("setns", 308, (-1, 0)),
    Row("mount", 165, (0, 0, 0, 0, 0)),
    Row("umount2", 166, (0, 0)),
    Row("pivot_root", 155, (0, 0)),
    Row("chroot", 161, (0,)),
    Row("open_tree", 428, (-1, 0, 0)),
    Row("move_mount", 429, (-1, 0, -1, 0, 0)),
    Row("fsopen", 430, (0, 0)),
    Row("fsmount", 432, (-1, 0, 0)),
    Row("mount_setattr", 442, (-1, 0, 0, 0, 0)),
    Row("open_by_handle_at", 304, (-1, 0, 0)),
    # The kernel itself.
    Row("bpf", 321, (0, 0, 0)),
    Row("perf_event_open", 298, (0, 0, -1, -1, 0)),
    Row("userfaultfd", 323, (0,)),
    Row("keyctl", 250, (0, 0)),
    Row("add_key", 248, (0, 0, 0, 0, 0)),
    Row("request_key", 249, (0, 0, 0, 0)),
    Row("init_module", 175, (0, 0, 0)),
    Row("finit_module", 313, (-1, 0, 0)),
    Row("delete_module", 176, (0, 0)),
    Row("kexec_load", 246, (0, 0, 0, 0)),
    Row("kexec_file_load", 320, (-1, -1, 0, 0, 0)),
    Row("reboot", 169, (0, 0, 0, 0)),
    Row("swapon", 167, (0, 0)),
    Row("swapoff", 168, (0,)),
    Row("acct", 163, (0,)),
    Row("quotactl", 179, (0, 0, 0, 0)),
    Row("syslog", 103, (3, 0, 0)),
    Row("fanotify_init", 300, (0, 0)),
    Row("iopl", 172, (3,)),
    Row("ioperm", 173, (0, 1, 1)),
    Row("settimeofday", 164, (0, 0)),
    Row("clock_settime", 227, (0, 0)),
    Row("clock_adjtime", 305, (0, 0)),
    Row("sethostname", 170, (0, 0)),
    Row("vhangup", 153),
    # Sockets that are no way out, and the ones that a program needs.
    Row("socket(AF_PACKET)", 41, (17, 3, 0)),
    Row("socket(AF_ALG)", 41, (38, 5, 0)),
    Row("socket(raw)", 41, (2, 3, 1)),
    Row("socket(AF_INET)", 41, (2, 1, 0), OPEN),
    Row("socket(AF_UNIX)", 41, (1, 1, 0), OPEN),
    # Who one is.
    Row("setuid(0)", 105, (0,)),
    Row("setgid(0)", 106, (0,)),
    Row("mknod(block device)", 133, (0, 0o060666, 0x800), frozenset({"EPERM", "EFAULT"})),
    # What programs need works.
    Row("getpid", 39, (), OPEN),
    Row("memfd_create", 319, (0, 0), frozenset({"EFAULT"})),
    Row("futex", 202, (0, 1, 0), frozenset({"EFAULT", "open"})),
    Row("epoll_create1", 291, (0,), OPEN),
    Row("getrandom", 318, (0, 0, 0), OPEN),
)

PROBE = f"""
import ctypes, errno, json
libc = ctypes.CDLL(None, use_errno=True)
answers = {{}}
for name, number, arguments in {json.dumps([(row.name, row.number, row.arguments) for row in ROWS])}:
    result = libc.syscall(*map(ctypes.c_long, (number, *arguments)))
    code = ctypes.get_errno()
    answers[name] = "open" if result >= 0 else errno.errorcode.get(code, str(code))
print(json.dumps(answers))
"""
