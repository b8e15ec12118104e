"""A PostgreSQL server, places for studies, and processes that begin quickly."""

from __future__ import annotations

import multiprocessing

import optuna
import pytest

from tests.postgresql import NoServer, server

optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture(scope="session")
def postgresql():
    """The URL of an empty database of a server of our own, on a socket."""
    try:
        with server() as url:
            yield url
    except NoServer as error:
        pytest.skip(str(error))


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
