"""Fixtures that every test may use."""

from __future__ import annotations

import os
from asyncio import AbstractEventLoop, Runner, new_event_loop
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, settings

from libs.runtime.imports import preload

preload()

from libs.bus.connection import Bus, connect  # noqa: E402 - nats-py is to be loaded the light way
from libs.bus.provision import provision  # noqa: E402
from libs.bus.telemetry import NoTelemetry  # noqa: E402
from libs.contracts.streams import StreamBounds  # noqa: E402
from tests.chaos.brokers import no_small_disk  # noqa: E402
from tests.support import containers  # noqa: E402
from tests.support.broker import Broker  # noqa: E402
from tests.support.facts import facts_report  # noqa: E402

NOT_SELECTED = pytest.StashKey[list[str]]()
SHORT = os.environ.get("PERPETUA_TESTS_SHORT") == "1"


def too_long() -> str | None:
    """Return why long tests are left out; None where they are not."""
    left = "PERPETUA_TESTS_SHORT=1 leaves them to `just test`, those of containers to `just containers`"
    return left if SHORT else None


NEEDS = {
    "containers": containers.missing,
    "small_disk": no_small_disk,
    "long": too_long,
}
ALONE = {
    "chaos", "conformance/test_default_address.py", "containers", "endpoint/test_whole_system.py", "life",
    "monitoring", "security", "storm", "up",
}  # fmt: skip
"""Whose tests look at times, leave nothing of the machine to others, or serve what all would find."""

WAITING = {
    "bus/test_lost_pulls.py", "bus/test_presence.py", "life/test_credits.py", "life/test_posts.py",
    "life/test_rest.py", "life/test_sharing.py", "life/test_takeovers.py", "life/test_waiting.py",
    "monitoring/test_scraping.py", "security/test_connections.py", "security/test_guard.py",
    "security/test_handshakes.py", "security/test_keys.py", "security/test_permissions.py",
    "services/test_earshot.py", "services/test_mute.py", "up/test_away.py", "up/test_hot_loops.py",
    "up/test_outage.py",
}  # fmt: skip
"""Whose tests wait for something most of their time, and use little of the machine meanwhile."""

ONE_SWARM = {"api", "clients", "conformance", "containers", "storm"}
"""Folders whose files share what a session brings up: one worker runs all of them."""

Run = Callable[[Coroutine[Any, Any, None]], None]

TESTS = Path(__file__).parent
STRICT = os.environ.get("PERPETUA_TESTS_STRICT") == "1"

# How long an example takes says how busy the machine is. In CI the examples are the same in every run.
settings.register_profile(
    "perpetua", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=STRICT
)
settings.load_profile("perpetua")


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], AbstractEventLoop]]:
    """The event loop that the processes have: it is not like asyncio's own where connections end."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(params=[new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Both event loops, for what they do not have alike: TLS, and connections that end."""

    def runs(work: Coroutine[Any, Any, None]) -> None:
        with Runner(loop_factory=request.param) as runner:
            runner.run(work)

    return runs


@pytest.fixture
def broker() -> Iterator[Broker]:
    """A real broker of this test's own, empty."""
    running = Broker()
    yield running
    running.close()


@pytest.fixture
async def bus(broker: Broker) -> AsyncIterator[Bus]:
    """A connection to the test's broker, its streams made with the smallest bounds."""
    async with connect(broker.url, "test", NoTelemetry()) as connected:
        await provision(connected, StreamBounds(max_events=2000, max_snapshots=128))
        yield connected


def kind_of(file: Path) -> str | None:
    """Return by which marker a file's tests run apart from the others; None: they do not."""
    place = file.relative_to(TESTS)
    if str(place) in WAITING:
        return "waiting"
    return "alone" if place.parts[0] in ALONE or str(place) in ALONE else None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no file of which no test would be selected."""
    wanted = config.getoption("markexpr")
    if wanted not in ("alone", "waiting") or collection_path.suffix != ".py":
        return None
    return kind_of(collection_path) != wanted or None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--facts", action="store_true", help="print how many facts of the specification hold")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that need more than a process may have are selected where it is; the summary names the others.

    CI has containers: there it is an error where they cannot run.
    """
    for item in items:
        place = item.path.relative_to(TESTS)
        folder = place.parts[0]
        item.add_marker(pytest.mark.xdist_group(folder if folder in ONE_SWARM else str(place)))
        if (kind := kind_of(item.path)) is not None:
            item.add_marker(kind)
    config.stash[NOT_SELECTED] = []
    for marker, missing in NEEDS.items():
        marked = [item for item in items if item.get_closest_marker(marker)]
        if not marked or (reason := missing()) is None:
            continue
        if STRICT and marker == "containers":
            raise pytest.UsageError(f"container tests cannot run, which CI does not allow: {reason}")
        items[:] = [item for item in items if item not in marked]
        config.hook.pytest_deselected(items=marked)
        config.stash[NOT_SELECTED].append(f"{counted(marked, marker)}, because {reason}")


def counted(items: list[pytest.Item], marker: str) -> str:
    """Return how many tests these are, and of which files."""
    files = sorted({item.location[0] for item in items})
    return f"{len(items)} tests marked `{marker}` ({', '.join(files)})"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for left_out in config.stash.get(NOT_SELECTED, []):
        terminalreporter.write_line(f"NOT RUN: {left_out}", yellow=True)
    if config.getoption("--facts"):
        terminalreporter.write_line(facts_report(terminalreporter))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """`just test FILE` runs both kinds of tests, of which a file has one."""
    if (told := getattr(session.config, "workeroutput", None)) is not None:
        told["not_selected"] = session.config.stash.get(NOT_SELECTED, [])
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and session.config.getoption("markexpr"):
        session.exitstatus = pytest.ExitCode.OK


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Of tests side by side it is the workers that select them."""
    node.config.stash[NOT_SELECTED] = getattr(node, "workeroutput", {}).get("not_selected", [])


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """In CI a skipped test is a failed one: nothing may be left out unnoticed."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    report.facts = [marker.args[0] for marker in item.iter_markers("fact")]
    if STRICT and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, which CI does not allow: {report.longrepr}"
