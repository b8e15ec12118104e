"""A PostgreSQL server, places for studies, and processes that begin quickly."""

from __future__ import annotations

import multiprocessing
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import optuna
import pytest

optuna.logging.set_verbosity(optuna.logging.ERROR)


def _programs():
    """The folder of PostgreSQL's server programs, if it is installed."""
    found = [Path(p).parent for p in [shutil.which("initdb")] if p]
    return next(iter([*found, *sorted(Path("/usr/lib/postgresql").glob("*/bin"))]), None)


def _server_user():
    """As whom to run the server, which refuses root."""
    if os.geteuid() != 0:
        return {}, None
    names = [name for name in ("postgres", "nobody") if name in {u.pw_name for u in pwd.getpwall()}]
    if not names:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres or nobody")
    user = pwd.getpwnam(names[0])
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}, user


@pytest.fixture(scope="session")
def postgresql():
    """The URL of an empty database of a server of our own, on a socket."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL's server is not installed (there is no initdb)")
    import psycopg

    options, user = _server_user()
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
        server = subprocess.Popen(
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
                    assert server.poll() is None, "the server has ended"
                    time.sleep(0.1)
            yield f"postgresql+psycopg://titans@/postgres?host={folder}"
        finally:
            server.send_signal(signal.SIGINT)  # which does not wait for its clients
            server.wait(30)


@pytest.fixture
def storage(request, tmp_path):
    """Where a study lies, by the name that a test is parametrized with."""
    if request.param == "postgresql":
        return request.getfixturevalue("postgresql")
    return {"sqlite": f"sqlite:///{tmp_path}/study.db", "journal": str(tmp_path / "journal")}[
        request.param
    ]


@pytest.fixture
def study_name(tmp_path):
    """A name that no other test has: they share PostgreSQL's database."""
    return str(tmp_path)


@pytest.fixture(scope="session")
def processes():
    """Where processes come from: copies of one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.tuning.cases"])
    return context
