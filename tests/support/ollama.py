"""The command `ollama` of the stand-in for Ollama's image: it knows `serve` and `pull`.

Like the real one it answers 404 for a model that was not pulled, and keeps what was pulled in its volume.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

from tests.support.endpoint import Endpoint

PORT = 11434
PULLED = Path("/root/.ollama/pulled")
SAYS = "The stand-in says that all is calm."


def answer(request: dict[str, Any]) -> str | int:
    return SAYS if PULLED.exists() and request["model"] in PULLED.read_text().split() else 404


def serve() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    Endpoint(answer, PORT, host="")
    signal.pause()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    elif sys.argv[1] == "pull":
        with PULLED.open("a") as pulled:
            pulled.write(sys.argv[2] + "\n")
