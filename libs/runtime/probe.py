"""`python -m libs.runtime.probe [livez|readyz]`: whether this container's process is well, as exit status.

For container health checks, in images without curl. Asks on the process's own metrics port.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException

from libs.settings.urls import reached_at

_WITHIN_S = 3.0


def probe(env: Mapping[str, str], what: str = "readyz") -> tuple[bool, str]:
    """Return whether the answer is good, and the answer, or why there is none."""
    host, port = env.get("PERPETUA_METRICS_HOST", "").strip(), env.get("PERPETUA_METRICS_PORT", "")
    if not port.isdigit() or port == "0":
        return False, "PERPETUA_METRICS_PORT names no port that could be asked"
    connection = HTTPConnection(reached_at(host), int(port), timeout=_WITHIN_S)
    try:
        connection.request("GET", f"/{what}")
        response = connection.getresponse()
        return response.status == 200, response.read().decode(errors="replace")
    except (OSError, HTTPException) as error:
        return False, f"nothing answers on port {port}: {error}"
    finally:
        connection.close()


if __name__ == "__main__":
    good, said = probe(os.environ, *sys.argv[1:2])
    print(said)  # noqa: T201 - the engine keeps it as the check's output
    sys.exit(0 if good else 1)
