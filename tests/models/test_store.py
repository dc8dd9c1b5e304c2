"""The folder of models: revisions, what a kill leaves, and what is on the disk before it counts."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from libs.models import hub as hub_module
from libs.models.errors import ModelError
from libs.models.hub import Hub
from libs.models.store import MADE, Store
from tests.models.conftest import cli, command, one_line
from tests.models.test_pull import DEFAULT, FIRST
from tests.support.hub import Repository
from tests.support.hub import hub as served
from tests.support.manifests import manifest

NAME, REPO = "qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B-Instruct"
ONE, OTHER = "aaaa1111" * 5, "bbbb2222" * 5


def made(store: Store, name: str, text: str) -> Path:
    """A converted model of a pull, as it is before it is kept."""
    folder = store.path / ".pull" / name / MADE
    folder.mkdir(parents=True)
    (folder / "model.bin").write_text(text)
    return folder


def keep(store: Store, name: str, revision: str | None, repo: str | None = REPO) -> None:
    store.finish(made(store, name, revision or ""), manifest(name, repo, revision))


def test_a_model_is_found_at_its_own_revision_only(tmp_path: Path) -> None:
    store = Store(tmp_path)
    keep(store, NAME, ONE)
    for asked in (NAME, REPO, f"{NAME}@{ONE}", f"{NAME}@{ONE[:7]}", f"{REPO}@{ONE[:7]}"):
        assert (store.find(asked) or pytest.fail(asked)).revision == ONE
    for asked in (f"{NAME}@{OTHER}", f"{NAME}@{OTHER[:7]}", f"{REPO}@v1", f"{NAME}@{ONE}0"):
        assert store.find(asked) is None
        assert f"(there: {NAME} at {ONE[:12]}). Leave out the @" in store.absent(asked)


def test_of_two_models_of_a_repository_the_one_at_the_revision_is_found(tmp_path: Path) -> None:
    store = Store(tmp_path)
    keep(store, "a", ONE, "owner/name")
    keep(store, "b", OTHER, "owner/name")
    keep(store, "mine", None, None)
    assert (store.find(f"owner/name@{OTHER[:7]}") or pytest.fail("none")).name == "b"
    assert store.find(f"a@{OTHER[:7]}") is None
    assert store.find("mine@aaaa") is None
    assert "mine at no revision" in store.absent("mine@aaaa")


def test_only_the_revision_that_is_named_is_removed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    keep(store, NAME, ONE)
    with pytest.raises(ModelError, match=f"{NAME} is not there at 'bbbb'"):
        store.remove(f"{NAME}@bbbb")
    assert store.find(NAME) is not None
    half = tmp_path / ".pull" / "owner--name" / f"source-{ONE}"
    half.mkdir(parents=True)
    (half / "model.safetensors.part").write_bytes(b"half")
    with pytest.raises(ModelError, match=r"did not end\. .* `perpetua model rm owner--name`"):
        store.remove(f"owner/name@{OTHER}")
    assert store.remove(f"owner/name@{ONE}") == 4
    assert store.remove(f"{NAME}@{ONE[:9]}") > 0
    assert store.all() == []


def test_commands_take_no_other_revision_than_the_one_named(tmp_path: Path) -> None:
    keep(Store(tmp_path / "models"), NAME, ONE)
    where = ["--data-dir", str(tmp_path)]
    assert ONE in cli("show", f"{NAME}@{ONE[:8]}", *where).stdout
    for asked in ("show", "rm"):
        assert f"there: {NAME} at {ONE[:12]}" in one_line(cli(asked, f"{NAME}@{OTHER[:8]}", *where))
    up = subprocess.run(
        [*command()[:-1], "up", "--model", f"{NAME}@{OTHER[:8]}", *where],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert up.returncode == 1
    assert f"there: {NAME} at {ONE[:12]}" in up.stderr


KILLED = """
import os, signal, sys
from pathlib import Path
from libs.models import durable
from libs.models.store import Store
from tests.models.test_store import ONE, OTHER, NAME, keep
durable.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
keep(Store(Path(sys.argv[1])), NAME, OTHER)
"""


def killed_in_between(store: Store) -> None:
    """Have a process killed that keeps a model, once the old one is away and before the new one is there."""
    keep(store, NAME, ONE)
    done = subprocess.run([sys.executable, "-c", KILLED, str(store.path)], timeout=60, check=False)
    assert done.returncode == -9
    assert store.find(NAME) is None


def test_a_pull_that_is_killed_as_it_keeps_its_model_loses_none(tmp_path: Path) -> None:
    """The next pull puts it into its place, before it asks the hub for anything."""
    store = Store(tmp_path / "models")
    killed_in_between(store)
    done = cli("pull", "--data-dir", str(tmp_path), HF_ENDPOINT="http://127.0.0.1:9")
    assert "cannot be reached" in one_line(done)
    assert (store.find(NAME) or pytest.fail("lost")).revision == OTHER
    assert store.unfinished() == []


def test_without_a_whole_new_model_the_old_one_is_back(tmp_path: Path) -> None:
    store = Store(tmp_path)
    killed_in_between(store)
    (tmp_path / ".pull" / NAME / MADE / "manifest.json").write_text("{")
    store.recover(NAME)
    assert (store.find(NAME) or pytest.fail("lost")).revision == ONE
    store.recover(NAME)
    assert (store.path / NAME / "model.bin").read_text() == ONE


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is brought onto the disk, and what gets another name, in this order."""
    seen: list[str] = []
    sync, rename = os.fsync, Path.rename

    def note(descriptor: int) -> None:
        seen.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        sync(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        seen.append(f"{path.name} → {target.name}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(Path, "rename", renamed)
    return seen


def test_a_model_is_on_the_disk_before_it_takes_its_place(tmp_path: Path, synced: list[str]) -> None:
    keep(Store(tmp_path / "models"), NAME, ONE)
    assert sorted(synced[:2]) == ["manifest.json", "model.bin"]
    assert synced[2:] == [MADE, f"{MADE} → {NAME}", "models"]


class Nobody:
    def at(self, name: str, done: int, total: int) -> None:
        pass

    def compared(self, name: str, done: int, total: int) -> None:
        pass


def test_a_fetched_file_is_on_the_disk_before_it_has_its_name(
    qwen2: Path, tmp_path: Path, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(**{DEFAULT: Repository(qwen2)}) as running:
        monkeypatch.setattr(hub_module, "HfApi", partial(HfApi, endpoint=running.url))
        hub = Hub("hf_x")
        listing = hub.describe(REPO, None)
        synced.clear()
        file = next(file for file in listing.files if file.name == FIRST)
        hub.fetch(REPO, listing.revision, file, tmp_path, Nobody())
    assert synced == [f"{FIRST}.part", f"{FIRST}.part → {FIRST}", tmp_path.name]
    assert hub_module.sha256(tmp_path / FIRST) == file.sha256
