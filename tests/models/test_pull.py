"""`perpetua model pull` against a stand-in for the hub: what a user sees, and what faults leave behind."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from libs.models.convert import load_tokenizer
from tests.models.conftest import cli, command, environment, one_line
from tests.support.eventually import eventually_sync
from tests.support.hub import COMMIT, Hub, Repository, hub
from tests.support.repositories import write

DEFAULT = "Qwen__Qwen2.5-0.5B-Instruct"
NAME = "qwen2.5-0.5b"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def listed(data: Path) -> Any:
    done = cli("list", "--data-dir", str(data), "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def pulled(data: Path, *arguments: str, hub: Hub | None, **env: str) -> dict[str, Any]:
    done = cli("pull", *arguments, "--data-dir", str(data), "--json", hub=hub, **env)
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads(done.stdout)
    return record


@contextmanager
def started(pull: list[str], hub: Hub) -> Iterator[subprocess.Popen[bytes]]:
    """A pull that is ended with the context."""
    with subprocess.Popen(pull, env=environment(hub), stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def test_the_default_model_is_pulled_shown_listed_and_removed(qwen2: Path, tmp_path: Path) -> None:
    with hub(**{DEFAULT: Repository(qwen2)}) as running:
        done = cli("pull", "--data-dir", str(tmp_path), hub=running)
        assert done.returncode == 0, done.stderr
        again = pulled(tmp_path, hub=running)
    lines = done.stdout.splitlines()
    licence = next(n for n, line in enumerate(lines) if "apache-2.0" in line)
    needs = next(n for n, line in enumerate(lines) if line.startswith("needs"))
    first_work = next(n for n, line in enumerate(lines) if line.startswith(("fetched", "now")))
    assert licence < needs < first_work, "licence and needs are said before anything is spent"
    assert re.search(
        r"MB to download, about .*B of disk.*B to keep \(int8\); about .*B of memory", lines[needs]
    )
    assert f"perpetua up --model {NAME}" in done.stdout
    assert again["already_there"] is True

    (model,) = listed(tmp_path)["models"]
    expected = {
        "name": NAME, "repo": "Qwen/Qwen2.5-0.5B-Instruct", "revision": COMMIT, "licence": "apache-2.0",
        "family": "qwen2", "compute_type": "int8", "window": 2048,
    }  # fmt: skip
    assert model.items() >= expected.items()
    assert model["check"]["tokens"] == 480
    assert model["check"]["largest"] < 1e-4
    assert {"model.bin", "tokenizer.json", "chat_template.jinja"} <= model["files"].keys()
    folder = Path(model["path"])
    assert (
        load_tokenizer(folder)
        .apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True)
        .endswith("<|im_start|>assistant\n")
    )
    assert not any("pytorch_model.bin" in str(path) for path in tmp_path.rglob("*"))
    assert "apache-2.0" in cli("list", "--data-dir", str(tmp_path)).stdout
    assert COMMIT in cli("show", NAME, "--data-dir", str(tmp_path)).stdout
    assert "are free again" in cli("rm", NAME, "--data-dir", str(tmp_path)).stdout
    assert listed(tmp_path) == {"models": [], "unfinished": []}


def test_programs_get_progress_on_standard_error_and_one_object(qwen2: Path, tmp_path: Path) -> None:
    with hub(**{DEFAULT: Repository(qwen2)}) as running:
        done = cli("pull", "--data-dir", str(tmp_path), "--json", hub=running)
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert {"found", "downloading", "comparing", "step", "checking"} <= {event["event"] for event in events}
    compared = {event["file"] for event in events if event["event"] == "comparing"}
    assert compared == {FIRST, SECOND}, "large files, whose checksum takes a while"
    found = next(event for event in events if event["event"] == "found")
    assert found["licence"] == "apache-2.0"
    assert found["needs"]["download"] > 1_000_000
    assert json.loads(done.stdout)["name"] == NAME


def test_pickles_and_what_is_not_needed_are_never_fetched(qwen2: Path, tmp_path: Path) -> None:
    with hub(**{DEFAULT: Repository(qwen2)}) as running:
        pulled(tmp_path, hub=running)
        assert running.asked_for(FIRST)
        assert running.asked_for("pytorch_model.bin") == []
        assert running.asked_for("README.md") == []


def test_cut_connections_are_gone_on_with(qwen2: Path, tmp_path: Path) -> None:
    with hub(**{DEFAULT: Repository(qwen2, cut_after=200_000, cuts=2)}) as running:
        pulled(tmp_path, hub=running)
        ranges = [*running.asked_for(FIRST), *running.asked_for(SECOND)]
    assert len([r for r in ranges if r is not None]) == 2, ranges
    assert (
        sum(running.sent.values())
        < 1.2 * sum(p.stat().st_size for p in qwen2.glob("*.safetensors")) + 100_000
    )


def test_a_killed_pull_goes_on_where_it_was_and_is_never_used(qwen2: Path, tmp_path: Path) -> None:
    half = 300_000
    repository = Repository(qwen2, hold_after=half)
    with hub(**{DEFAULT: repository}) as running:
        pull = command("pull", "--data-dir", str(tmp_path))
        with started(pull, running) as process:
            part = tmp_path / "models" / ".pull" / NAME / f"source-{COMMIT}" / f"{FIRST}.part"
            eventually_sync(lambda: part.stat().st_size > 0, 60, "some bytes on the disk")
            os.kill(process.pid, signal.SIGKILL)
        running.released.set()
        kept = part.stat().st_size
        assert kept > 0
        left = listed(tmp_path)
        assert left["models"] == []
        assert left["unfinished"][0]["name"] == NAME
        up = subprocess.run(
            [*command()[:-1], "up", "--model", NAME, "--data-dir", str(tmp_path)],
            capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
        assert f"perpetua model pull {NAME}" in up.stderr
        repository.hold_after = None
        pulled(tmp_path, hub=running)
        assert f"bytes={kept}-" in running.asked_for(FIRST)
    assert listed(tmp_path)["unfinished"] == []


KILLED = """
import os, runpy, signal
from libs.models import check
check.source_logits = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
runpy.run_module("libs.cli", run_name="__main__")
"""


def test_a_pull_killed_while_it_checks_leaves_nothing_that_is_used(qwen2: Path, tmp_path: Path) -> None:
    with hub(**{DEFAULT: Repository(qwen2)}) as running:
        pull = command("pull", "--data-dir", str(tmp_path))
        killed = [sys.executable, "-c", KILLED, *pull[pull.index("model") :]]
        done = subprocess.run(killed, env=environment(running), capture_output=True, timeout=90, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert listed(tmp_path)["models"] == []
        asked = len(running.asked_for(FIRST))
        pulled(tmp_path, hub=running)
        assert len(running.asked_for(FIRST)) == asked, "what was downloaded is not downloaded again"


def test_a_wrong_checksum_is_never_used(qwen2: Path, tmp_path: Path) -> None:
    repository = Repository(qwen2, flip=SECOND)
    with hub(**{DEFAULT: repository}) as running:
        done = cli("pull", "--data-dir", str(tmp_path), hub=running)
        assert f"{SECOND} of Qwen/Qwen2.5-0.5B-Instruct has another checksum" in one_line(done)
        assert len(running.asked_for(SECOND)) == 2, "once anew, in case it was chance"
        assert listed(tmp_path)["models"] == []
        repository.flip = "tokenizer.json"
        assert "tokenizer.json" in pulled(tmp_path, hub=running)["files"], "it was right the first time"


def test_what_an_earlier_pull_left_is_compared_before_it_is_used(qwen2: Path, tmp_path: Path) -> None:
    """After a loss of power a file may have its length and other bytes; the check would see those twice."""
    repository = Repository(qwen2, flip=SECOND)
    with hub(**{DEFAULT: repository}) as running:
        assert cli("pull", "--data-dir", str(tmp_path), hub=running).returncode == 1
        repository.flip = None
        left = tmp_path / "models" / ".pull" / NAME / f"source-{COMMIT}" / FIRST
        left.write_bytes(bytes(left.stat().st_size))
        made = pulled(tmp_path, hub=running)
        assert running.asked_for(FIRST) == [None, None], "anew"
    assert made["source_files"][FIRST] == hashlib.sha256((qwen2 / FIRST).read_bytes()).hexdigest()


def test_a_small_files_checksum_counts_too(qwen2: Path, tmp_path: Path) -> None:
    with hub(**{DEFAULT: Repository(qwen2, flip="tokenizer.json")}) as running:
        assert "tokenizer.json" in one_line(cli("pull", "--data-dir", str(tmp_path), hub=running))


def test_a_server_that_fails_for_a_while_is_asked_again(qwen2: Path, tmp_path: Path) -> None:
    with hub(**{DEFAULT: Repository(qwen2, statuses=[503, 500])}) as running:
        assert pulled(tmp_path, hub=running)["name"] == NAME


def test_a_server_without_ranges_costs_the_file_anew_and_nothing_else(qwen2: Path, tmp_path: Path) -> None:
    with hub(**{DEFAULT: Repository(qwen2, cut_after=200_000, cuts=1, ignores_ranges=True)}) as running:
        assert pulled(tmp_path, hub=running)["check"]["largest"] < 1e-4


@pytest.mark.parametrize("limit", [100_000, 400_000])
def test_a_disk_that_fills_up_is_said_and_what_came_is_kept(limit: int, qwen2: Path, tmp_path: Path) -> None:
    """A limit on a file's size stands for a full disk: the same error on the same call."""
    with hub(**{DEFAULT: Repository(qwen2)}) as running:
        done = subprocess.run(
            ["prlimit", f"--fsize={limit}", *command("pull", "--data-dir", str(tmp_path))],
            env=environment(running), capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
        line = one_line(done)
        assert "make room" in line
        assert "File too large" in line
        assert listed(tmp_path)["models"] == []
        pulled(tmp_path, hub=running)
        assert f"bytes={limit}-" in running.asked_for(FIRST)


def test_too_little_memory_is_said_before_anything_is_fetched(tmp_path: Path) -> None:
    big = write(tmp_path / "big", "qwen2")
    settings = json.loads((big / "config.json").read_text())
    (big / "config.json").write_text(json.dumps(settings | {"intermediate_size": 10**11}))
    with hub(owner__big=Repository(big)) as running:
        line = one_line(cli("pull", "owner/big", "--data-dir", str(tmp_path / "data"), hub=running))
        assert re.search(r"needs about .* of memory, .* is free", line)
        assert running.asked_for("model.safetensors") == []


@pytest.mark.parametrize(
    ("arguments", "env", "words"),
    [
        (["meta/gated"], {}, ["is gated", "accept its licence at", "/meta/gated", "HF_TOKEN"]),
        (["meta/gated"], {"HF_TOKEN": "hf_wrong"}, ["this token's account has no access", "/meta/gated"]),
        (["no/body"], {}, ["there is no no/body", "private", "HF_TOKEN"]),
        (["no/body"], {"HF_TOKEN": "hf_x"}, ["there is no no/body", "this token may not see it"]),
        (["owner/fine@gone"], {}, ["owner/fine has no revision 'gone'"]),
        (["owner/pickle"], {}, ["no model.safetensors", "pickle"]),
        (["owner/phi"], {}, ["'phi3'", "Covered: Qwen2, Qwen3 and Llama", "torch"]),
        (["some thing"], {}, ["expected one of", "qwen2.5-0.5b", "owner/name"]),
        (["tiny"], {}, ["perpetua up --model tiny"]),
        (["owner/fine", "--compute-type", "int4"], {}, ["'int4' is none of int8"]),
        (["owner/fine", "--as", "../x"], {}, ["cannot be a model's name"]),
        (["owner/fine"], {"HF_HUB_OFFLINE": "1"}, ["HF_HUB_OFFLINE"]),
        (["owner/fine"], {"HF_ENDPOINT": "http://127.0.0.1:9"}, ["cannot be reached", "http://127.0.0.1:9"]),
    ],
)
def test_what_cannot_be_pulled_is_said_in_one_line_with_the_cure(
    arguments: list[str], env: dict[str, str], words: list[str], tmp_path: Path
) -> None:
    fine = write(tmp_path / "fine", "llama")
    phi = write(tmp_path / "phi", "qwen2")
    settings = json.loads((phi / "config.json").read_text())
    (phi / "config.json").write_text(
        json.dumps(settings | {"model_type": "phi3", "architectures": ["Phi3ForCausalLM"]})
    )
    pickle = write(tmp_path / "pickle", "qwen2")
    (pickle / "model.safetensors").unlink()
    served = {
        "meta__gated": Repository(fine, gated=True), "owner__fine": Repository(fine),
        "owner__phi": Repository(phi), "owner__pickle": Repository(pickle),
    }  # fmt: skip
    with hub(**served) as running:
        line = one_line(cli("pull", *arguments, "--data-dir", str(tmp_path / "data"), hub=running, **env))
        for word in words:
            assert word in line
        assert running.asked_for("model.safetensors") == []
    assert not (tmp_path / "data" / "models" / "owner--fine").exists()


@pytest.mark.parametrize("how", ["option", "environment"])
def test_a_gated_model_is_pulled_with_a_token(how: str, tmp_path: Path) -> None:
    source = write(tmp_path / "source", "llama", dtype="bfloat16")
    with hub(meta__gated=Repository(source, gated=True, licence="llama3.2")) as running:
        if how == "option":
            made = pulled(tmp_path, "meta/gated", "--token", "hf_right", hub=running)
        else:
            made = pulled(tmp_path, "meta/gated@main", hub=running, HF_TOKEN="hf_right")
    assert (made["name"], made["licence"], made["family"]) == ("meta--gated", "llama3.2", "llama")
    assert "hf_right" not in json.dumps(made)


def test_a_folder_is_converted_and_kept_under_the_chosen_name(tmp_path: Path) -> None:
    source = write(tmp_path / "source", "qwen3", dtype="float16")
    made = pulled(tmp_path, str(source), "--as", "mine", "--compute-type", "bfloat16", hub=None)
    assert (made["name"], made["folder"], made["repo"]) == ("mine", str(source), None)
    assert (made["licence"], made["compute_type"]) == ("apache-2.0", "bfloat16")
    assert (source / "model.safetensors").is_file()


def test_another_revision_or_compute_type_takes_the_place_of_the_old_one(qwen2: Path, tmp_path: Path) -> None:
    repository = Repository(qwen2)
    with hub(**{DEFAULT: repository}) as running:
        pulled(tmp_path, hub=running)
        repository.commit = "deed" * 10
        assert pulled(tmp_path, hub=running)["already_there"] is False
        made = pulled(tmp_path, f"{NAME}@v1", "--compute-type", "float32", hub=running)
    assert (made["revision"], made["compute_type"]) == ("deed" * 10, "float32")
    assert [model["compute_type"] for model in listed(tmp_path)["models"]] == ["float32"]


def test_rm_removes_what_is_named_and_nothing_else(tmp_path: Path) -> None:
    source = write(tmp_path / "source", "qwen2")
    (tmp_path / "models" / "by-hand").mkdir(parents=True)
    (tmp_path / "models" / "by-hand" / "model.bin").write_bytes(b"not pulled")
    pulled(tmp_path, str(source), "--as", "mine", hub=None)
    for name in ("..", ".", "../models", "by-hand", "/", "nobody", ""):
        assert "no model" in one_line(cli("rm", name, "--data-dir", str(tmp_path)))
    assert (tmp_path / "models" / "by-hand" / "model.bin").is_file()
    assert [model["name"] for model in listed(tmp_path)["models"]] == ["mine"]


def test_two_pulls_of_one_name_do_not_meet(qwen2: Path, tmp_path: Path) -> None:
    with hub(**{DEFAULT: Repository(qwen2, hold_after=100_000)}) as running:
        pull = command("pull", "--data-dir", str(tmp_path))
        with started(pull, running):
            eventually_sync(lambda: running.asked_for(FIRST), 60, "the first one downloads")
            second = cli("pull", "--data-dir", str(tmp_path), hub=running)
            assert "another pull of qwen2.5-0.5b runs" in one_line(second)
