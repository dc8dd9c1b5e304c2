"""How often the broker says that a consumer, or a pull, is still known to it."""

from __future__ import annotations

SECOND = 1_000_000_000
"""In the broker's unit of time, nanoseconds."""

HEARTBEAT_S = 2.0
SILENCE_S = 3 * HEARTBEAT_S
"""What has said nothing for so long is lost, and is asked for anew."""
