"""A PostgreSQL server for a test or a benchmark, with an empty database, on a socket."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class NoServer(RuntimeError):
    """A server cannot run here; the message says why."""


def _programs() -> Path:
    """Return the folder of the server's programs."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not folders:
        raise NoServer("PostgreSQL's server is not installed (there is no initdb)")
    return folders[0]


def _user() -> tuple[dict[str, Any], pwd.struct_passwd | None]:
    """Return as whom to run the server, which refuses root."""
    if os.geteuid() != 0:
        return {}, None
    names = [name for name in ("postgres", "nobody") if name in {u.pw_name for u in pwd.getpwall()}]
    if not names:
        raise NoServer("PostgreSQL does not run as root, and there is no user postgres or nobody")
    user = pwd.getpwnam(names[0])
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}, user


@contextmanager
def server() -> Iterator[str]:
    """Give the URL of an empty database of a server of our own, which ends with the block.

    Raises
    ------
    NoServer
        If PostgreSQL is not installed, or there is no user for it.
    """
    programs = _programs()
    import psycopg

    options, user = _user()
    # not in tmp_path, which no other user may enter, and whose name is too long for a socket
    with tempfile.TemporaryDirectory(prefix="titans-ts-", ignore_cleanup_errors=True) as folder:
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        data = f"{folder}/data"
        made = [programs / "initdb", "-D", data, "-A", "trust", "-U", "titans", "--no-sync"]
        subprocess.run(
            [*made, "--locale=C", "-E", "UTF8"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=folder,
            **options,
        )
        settings = ["listen_addresses=", "fsync=off", f"unix_socket_directories={folder}"]
        running = subprocess.Popen(
            [programs / "postgres", "-D", data, *(a for s in settings for a in ("-c", s))],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            **options,
        )
        try:
            for _ in range(300):
                try:
                    psycopg.connect(f"host={folder} user=titans dbname=postgres").close()
                    break
                except psycopg.OperationalError:
                    assert running.poll() is None, "the server has ended"
                    time.sleep(0.1)
            yield f"postgresql+psycopg://titans@/postgres?host={folder}"
        finally:
            running.send_signal(signal.SIGINT)  # which does not wait for its clients
            running.wait(30)
