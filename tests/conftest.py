"""What every test gets: the options and markers that pyproject.toml names."""

import os
import shutil
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from tests.ceph_cluster import CephCluster
    from tests.postgres import Postgres
    from tests.sanlock_hosts import Hosts

# Slow machines and slow storage are no reason to fail; a failure prints how to repeat it.
hypothesis.settings.register_profile(
    "quick",
    max_examples=100,
    deadline=None,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile(
    "full", hypothesis.settings.get_profile("quick"), max_examples=1_000, database=None
)

GUEST = Path(__file__).with_name("guest")

# Debian keeps sanlock, tgtd and mkfs where a user's PATH does not look.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run the long tests too")


def pytest_configure(config: pytest.Config) -> None:
    """Before any test module is imported: how many inputs a property is tried with.

    And signals: tests send some to commands, which obey a parent that made them ignore those.
    """
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    hypothesis.settings.load_profile("full" if config.getoption("--full") else "quick")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests marked `full`, and most cases of those marked `sample`, unless `--full` is
    given. The guest comes first: nothing takes as long, and all else can be done beside it."""
    items.sort(key=lambda item: GUEST not in item.path.parents)
    if config.getoption("--full"):
        return
    long = {item for item in items if item.get_closest_marker("full")}
    wanted: dict[str, int] = {}
    families: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item not in long and (marker := item.get_closest_marker("sample")):
            families.setdefault(item.nodeid.partition("[")[0], []).append(item)
            wanted[item.nodeid.partition("[")[0]] = marker.args[0]
    for name, cases in families.items():
        long.update(set(cases) - set(_sample(cases, wanted[name])))
    if long:
        config.hook.pytest_deselected(items=list(long))
        items[:] = [item for item in items if item not in long]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test has logged or printed may be no UTF-8, which a report to another process has to
    be: it would end the whole run."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report


def _sample(cases: list[pytest.Item], wanted: int) -> list[pytest.Item]:
    """So many of them, evenly: the first, and the last."""
    if len(cases) <= wanted:
        return cases
    return [cases[round(n * (len(cases) - 1) / max(wanted - 1, 1))] for n in range(wanted)]


@pytest.fixture(scope="session")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Hosts"]:
    """Two hosts for all tests of a process of pytest, which is one of host A; do not hurt them."""
    from tests.sanlock_hosts import two_hosts  # noqa: PLC0415 - it uses the search path from here

    with two_hosts(tmp_path_factory.mktemp("sanlock")) as both:
        yield both


@pytest.fixture(scope="session")
def ceph_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator["CephCluster"]:
    """A Ceph cluster for all tests of a run, whichever process they are in; do not hurt it."""
    from tests.ceph_keeper import shared  # noqa: PLC0415 - it uses the search path from here

    own = tmp_path_factory.getbasetemp()
    with shared(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def postgres_server() -> Iterator["Postgres"]:
    """A PostgreSQL server for all tests of a process of pytest; make a database in it."""
    from tests.postgres import postgres  # noqa: PLC0415

    with postgres() as server:
        yield server


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose `tools` are missing; in CI, where scripts/setup ran, fail it."""
    names = [name for marker in item.iter_markers("tools") for name in marker.args]
    missing = sorted({name for name in names if shutil.which(name, path=SEARCH_PATH) is None})
    if not missing:
        return
    reason = f"not installed: {', '.join(missing)} (scripts/setup installs what the tests need)"
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
