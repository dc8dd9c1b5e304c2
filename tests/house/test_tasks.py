"""Nothing runs in the background without an owner that sees its end [H7]."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.parsing import parsed

ROOT = Path(__file__).parent.parent.parent

STARTERS = {
    "create_task", "ensure_future", "TaskGroup", "gather", "run_in_executor", "to_thread", "Thread",
    "run_coroutine_threadsafe", "ThreadPoolExecutor", "ProcessPoolExecutor", "Timer",
}  # fmt: skip
GROUPS = {"tasks", "outer", "_tasks", "super()"}
"""What `create_task` is called on where it belongs to a group of `libs.concurrency.tasks`."""

JUSTIFIED = {
    "libs/concurrency/tasks.py Tasks TaskGroup": "the group that tells of each end",
    "libs/concurrency/tasks.py beside create_task": "cancelled and awaited at the end of the context",
    "libs/bus/publisher.py open create_task": "its crash fails `Bus.lost`, which ends the process",
    "libs/runtime/process.py _live create_task": "the process itself; its end is the exit status",
    "libs/runtime/health.py __init__ Thread": "`beat` ends the process where the thread has ended",
    "libs/supervisor/output.py __init__ Thread": "it does nothing but write, and nothing depends on its end",
    "libs/supervisor/up.py _kept gather": "awaited where it is made: ending processes raises nothing",
    "libs/runtime/process.py _export_last run_in_executor": "waited for so long; the process ends anyhow",
    "services/thinker/backends/batching.py _wake_worker create_task": (
        "a callback fails the batch, tells of the crash and starts the next worker"
    ),
    "services/thinker/backends/ct2.py __init__ ThreadPoolExecutor": "shut down, and awaited, by `close`",
    "services/thinker/backends/ct2.py _run run_in_executor": "awaited where it is made",
    "services/thinker/backends/choosing.py _ctranslate2 run_in_executor": "awaited where it is made",
    "services/gateway/peers.py status gather": "awaited where it is made; each has a deadline of its own",
    "services/gateway/peers.py _joined gather": "awaited where it is made; each has a deadline of its own",
    "services/gateway/peers.py spend gather": "awaited where it is made; each has a deadline of its own",
    "services/gateway/storing.py _try gather": "awaited where it is made; each has a deadline",
    "services/registry/broker.py watch_broker gather": "awaited where it is made; each has a deadline",
    "services/scheduler/inboxes.py _sweep gather": "awaited where it is made; none of them raises",
    "services/scheduler/treasury.py _ask gather": "awaited where it is made; each has a deadline of its own",
}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for folder in ("libs", "services"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), parsed(path.read_text())


class Starts(ast.NodeVisitor):
    """Collects what starts something in the background, with the function or class it stands in."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str, str]] = []
        self._within = "module"

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        before, self._within = self._within, node.name
        for base in getattr(node, "bases", ()):
            if isinstance(base, ast.Attribute) and base.attr in STARTERS:
                self.found.append((node.name, base.attr, ""))
        self.generic_visit(node)
        self._within = before

    visit_AsyncFunctionDef = visit_ClassDef = visit_FunctionDef  # noqa: N815 - the library's names

    def visit_Call(self, node: ast.Call) -> None:
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        if name in STARTERS:
            on = ast.unparse(called.value) if isinstance(called, ast.Attribute) else ""
            self.found.append((self._within, name, on.removeprefix("self.")))
        self.generic_visit(node)


def started(tree: ast.Module) -> list[tuple[str, str, str]]:
    visitor = Starts()
    visitor.visit(tree)
    return visitor.found


@pytest.mark.fact("H7")
def test_whatever_starts_something_owns_it_or_says_here_who_does() -> None:
    found = {
        f"{path} {within} {name}"
        for path, tree in modules()
        for within, name, on in started(tree)
        if not (name == "create_task" and on in GROUPS)
    }
    assert found - JUSTIFIED.keys() == set(), "started without an owner"
    assert JUSTIFIED.keys() - found == set(), "justified, and not there"


@pytest.mark.fact("H7")
def test_every_task_of_a_group_has_a_name_by_which_its_crash_is_told() -> None:
    unnamed = []
    for path, tree in modules():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr == "create_task" and "name" not in {keyword.arg for keyword in node.keywords}:
                unnamed.append(f"{path}:{node.lineno}")
    assert unnamed == []


@pytest.mark.fact("H7")
def test_messages_are_received_only_where_a_crash_of_the_receiver_is_seen() -> None:
    """The client library logs the error of a receiver as one of the connection, and goes on."""
    bare = []
    for path, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                on = ast.unparse(node.func.value)
                if node.func.attr == "subscribe" and on.endswith("client"):
                    bare.append(f"{path} {on}")
    assert bare == ["libs/bus/connection.py self.client", "libs/bus/publisher.py self._client"]


@pytest.mark.fact("H7")
def test_nobody_swallows_everything() -> None:
    """`except Exception` and wider are rare: each says what becomes of the error."""
    swallowing = []
    for path, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
                wide = {"Exception", "BaseException"} & {ast.unparse(kind) for kind in node.args}
                swallowing += [f"{path}:{node.lineno}"] if wide else []
            if not isinstance(node, ast.ExceptHandler):
                continue
            kind = ast.unparse(node.type) if node.type is not None else ""
            if kind in ("", "Exception", "BaseException") and all(
                isinstance(step, ast.Pass | ast.Continue) for step in node.body
            ):
                swallowing.append(f"{path}:{node.lineno}")
    assert swallowing == []
