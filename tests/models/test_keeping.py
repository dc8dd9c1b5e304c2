"""Names, needs and the folder of models; and a swarm that thinks with a pulled one."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from libs.models import needs, official
from libs.models.errors import ModelError, TooLittle
from libs.models.names import DEFAULT, KNOWN, parse
from libs.models.pull import Pull, pull
from libs.models.store import Store
from tests.models.conftest import cli
from tests.support.eventually import eventually_sync
from tests.support.repositories import write
from tests.support.swarm import Swarm, swarm

GIGA = 10**9


@pytest.mark.parametrize(
    ("asked", "kept_as", "expected"),
    [
        (DEFAULT, None, (DEFAULT, KNOWN[DEFAULT].repo, None)),
        (f"{DEFAULT}@v1", None, (DEFAULT, KNOWN[DEFAULT].repo, "v1")),
        ("smollm2-360m", "small", ("small", KNOWN["smollm2-360m"].repo, None)),
        (KNOWN[DEFAULT].repo, None, (DEFAULT, KNOWN[DEFAULT].repo, None)),
        ("owner/re.po-1@a1b2", None, ("owner--re.po-1", "owner/re.po-1", "a1b2")),
    ],
)
def test_a_name_means_a_repository_at_a_revision(
    asked: str, kept_as: str | None, expected: tuple[str, str, str | None]
) -> None:
    reference = parse(asked, kept_as)
    assert (reference.name, reference.repo, reference.revision) == expected


@pytest.mark.parametrize("asked", ["", "nobody", "a/b/c", "../x/y", "tiny", "/nowhere", "owner/ name"])
def test_what_is_no_name_is_refused(asked: str) -> None:
    with pytest.raises(ModelError):
        parse(asked)


def test_a_folder_is_named_by_its_last_part(tmp_path: Path) -> None:
    (tmp_path / "My.Model").mkdir()
    assert parse(str(tmp_path / "My.Model")).name == "My.Model"


def test_memory_decides_how_strictly_int8_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 0.5 G weights the strict check holds 2 GB, the loose one 0.55 GB, beside what both need."""
    shape = (500_000_000, 150_000, 900)

    def with_memory(free: float, kind: str = "int8") -> needs.Needs:
        monkeypatch.setattr(needs, "memory_available", lambda: int(free))
        return needs.estimate(*shape, kind, 10**9)

    assert with_memory(8 * GIGA).strict
    short = with_memory(4 * GIGA)
    assert not short.strict
    assert short.memory < 4 * GIGA
    assert short.disk == short.download + short.kept
    assert 0.5 * GIGA < short.kept < 0.6 * GIGA
    with pytest.raises(TooLittle, match="smaller model"):
        with_memory(1 * GIGA)
    with pytest.raises(TooLittle, match="memory"):
        with_memory(4 * GIGA, "float16")


class Said:
    """Takes what a pull finds, and nothing else."""

    def found(self, *_: object) -> None:
        raise AssertionError("it is said that it fits")


def test_ctranslate2s_converter_is_never_checked_in_int8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch holds the source in float32 whatever is free, so too little memory is said before."""
    source = write(tmp_path / "source", "qwen2")
    config = json.loads((source / "config.json").read_text()) | {"model_type": "mistral"}
    (source / "config.json").write_text(json.dumps(config))
    parameters = sum(path.stat().st_size for path in source.glob("*.safetensors")) // 2
    monkeypatch.setattr(needs, "memory_available", lambda: 10**12)
    shape = (config["vocab_size"], config["hidden_size"], "int8", 0)
    need = needs.estimate(parameters, *shape, by_torch=True)
    assert need.strict
    assert need.memory - needs.estimate(parameters, *shape).memory == 4 * parameters
    assert need.kept == needs.stored_bytes(parameters, "int8")
    monkeypatch.setattr(needs, "memory_available", lambda: need.memory - 1)
    monkeypatch.setattr(official, "require_torch", lambda _: None)
    said: Any = Said()
    with pytest.raises(TooLittle, match="of memory"):
        pull(Pull(parse(str(source), "m"), Store(tmp_path / "models"), "int8", None, said))


def test_disk_is_compared_with_what_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(GIGA, 0, GIGA))
    needs.check_disk(tmp_path, GIGA)
    with pytest.raises(TooLittle, match=r"2.0 GB of disk.*--data-dir"):
        needs.check_disk(tmp_path, 2 * GIGA)


def test_what_is_no_finished_model_is_no_model(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.all() == []
    for name, manifest in (("none", None), ("broken", b"{}"), (".pull", b"{}")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.bin").write_bytes(b"x")
        if manifest is not None:
            (tmp_path / name / "manifest.json").write_bytes(manifest)
    assert store.all() == []
    assert store.newest() is None
    assert store.find("../models/none") is None


def first_thought(running: Swarm) -> dict[str, Any]:
    def find() -> dict[str, Any] | None:
        return next((e["payload"] for e in running.events() if "thinking" in e["payload"]), None)

    return eventually_sync(find, 90, "a thought") or {}


@pytest.mark.fact("1.1")
@pytest.mark.timeout(300)
def test_a_swarm_thinks_with_a_pulled_model_by_name_and_by_itself(tmp_path: Path) -> None:
    """From pull to the first thought: one command each."""
    source = write(tmp_path / "source", "qwen3", dtype="bfloat16")
    data = tmp_path / "data"
    done = cli("pull", str(source), "--as", "mine", "--data-dir", str(data))
    assert done.returncode == 0, done.stderr
    settings = {"LOOP_INTERVAL_MS": "100", "THINKER_MAX_TOKENS": "8"}
    with swarm("--model", "mine", settings=settings, data=data) as running:
        payload = first_thought(running)
        assert payload["model"] == "mine", payload
        assert payload["source"] == "model"
    kept = tmp_path / "again"
    shutil.copytree(tmp_path / "source", kept / "source")
    assert cli("pull", str(kept / "source"), "--as", "mine", "--data-dir", str(kept)).returncode == 0
    with swarm(settings=settings, data=kept) as running:
        assert "it was pulled" in running.until_output("thinks")
        assert first_thought(running)["model"] == "mine"
