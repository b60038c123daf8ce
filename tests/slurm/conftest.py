import os
from collections.abc import Iterator
from typing import Any

import pytest

from .cluster import Cluster
from .machine import install


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A real Slurm for the whole run; whatever talks to it is given `cluster.env`."""
    if reason := install():
        needed = os.environ.get("CI") or os.environ.get("RM_ROBUSTNESS_NEEDS_SLURM")
        (pytest.fail if needed else pytest.skip)(reason)
    with Cluster() as started:
        yield started


@pytest.fixture(autouse=True)
def healed(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test inherits the faults or the jobs of another."""
    yield
    if "cluster" in request.fixturenames:
        request.getfixturevalue("cluster").heal()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Show Slurm's view of a failed test."""
    report = yield
    cluster = getattr(item, "funcargs", {}).get("cluster")
    if report.failed and cluster:
        report.sections.append(("Slurm", cluster.diagnostics()))
    return report
