"""A product whose worker is not root: it may speak with the engine, and do nothing else on the host.

It has an /etc/hosts of its own, so that names lead where a test wants them to.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import missing
from tests.e2e.stack import Product, running_product

USER_ID = 64_242
SOCKET = Path("/var/run/docker.sock")
_HOSTS = 'mount --bind "$0" /etc/hosts && exec "$@"'


@contextmanager
def unprivileged_product(hosts: Mapping[str, str], **settings: str) -> Iterator[Product]:
    """`hosts` maps names to addresses; afterwards nothing of the product is left on the host."""
    if os.geteuid() != 0:
        missing("a worker of another user", "run the tests as root")
    directory = Path(tempfile.mkdtemp(prefix="sandbox-unprivileged-", dir="/tmp"))
    try:
        directory.chmod(0o711)
        names = directory / "hosts"
        names.write_text("127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in hosts.items()))
        data = directory / "data"
        data.mkdir(mode=0o711)
        os.chown(data, USER_ID, USER_ID)
        with running_product(data, wrapper=_wrapper(names), HOME=str(data), **settings) as product:
            yield product
    finally:
        shutil.rmtree(directory)


def _wrapper(hosts: Path) -> tuple[str, ...]:
    engine = SOCKET.stat().st_gid
    user = (f"--reuid={USER_ID}", f"--regid={USER_ID}", f"--groups={engine}")
    # Nothing but to read: the interpreter of a test run may lie in root's home.
    rights = [f"--{one}-caps=-all,+dac_read_search" for one in ("inh", "ambient")]
    rights.append("--bounding-set=-all,+dac_read_search")
    return ("unshare", "--mount", "sh", "-c", _HOSTS, str(hosts), "setpriv", *user, *rights)
