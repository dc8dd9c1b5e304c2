"""What batches have left free goes back to the system: once a minute, and once after the last of them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from libs.supervisor.up import ALLOCATOR
from services.thinker.backends.heap import Heap
from tests.support.eventually import eventually
from tests.thinker.models import backend_of
from tests.thinker.test_ct2 import prompts_of

GIVES_BACK = """
import psutil
from services.thinker.backends.heap import trim
resident = lambda: psutil.Process().memory_info().rss / 2**20
blocks = [bytearray(2**20) for _ in range(200)]
keeper = bytearray(2**20)
del blocks
kept = resident()
trim()
print(kept, resident())
"""


def test_what_the_allocator_keeps_for_speed_goes_back() -> None:
    run = subprocess.run(
        [sys.executable, "-c", GIVES_BACK],
        env={**os.environ, **ALLOCATOR},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    kept, left = map(float, run.stdout.split())
    assert kept - left > 190, "MiB"


async def test_use_is_followed_by_one_trim_and_none_after_the_end() -> None:
    trims: list[float] = []
    clock = asyncio.get_running_loop().time
    with ThreadPoolExecutor(1) as pool:
        heap = Heap(pool, lambda: trims.append(clock()), 0.2)
        began = clock()
        for _ in range(5):
            heap.used()
        await eventually(lambda: len(trims) == 1, what="a trim")
        assert trims[0] - began >= 0.2
        await asyncio.sleep(0.5)
        assert len(trims) == 1, "nothing was used since"
        heap.used()
        await eventually(lambda: len(trims) == 2, what="another trim")
        heap.used()
        heap.close()
        await asyncio.sleep(0.5)
        assert len(trims) == 2


async def test_a_batch_is_a_use(tiny: Path) -> None:
    trims: list[None] = []
    async with backend_of(tiny) as (backend, _):
        backend._heap = Heap(backend._pool, lambda: trims.append(None), 0.05)
        await backend.answer(prompts_of(backend, 1)[0])
        await eventually(lambda: len(trims) == 1, what="a trim after the batch")
