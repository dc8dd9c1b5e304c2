"""A full disk under the embedded broker, seen in its log, or by what is free: the log may lie there, too.

It is over once there is room and the broker was restarted: nats-server closes a stream that it could not
write to for as long as it runs, also when there is room again.
"""

from __future__ import annotations

import shutil
from pathlib import Path

_SAYS = b"no space left on device"
_ROOM_BYTES = 64 * 1024 * 1024
_BLOCK_BYTES = 4096


class Disk:
    """The disk that holds the broker's streams."""

    def __init__(self, streams: Path, log: Path) -> None:
        self.full = False
        """Whether the broker could not write, and was not restarted since."""

        self._streams = streams
        self._log = log
        self._read = _size(log)

    def look(self) -> None:
        """Look at what is free, and read what the broker has logged since the last look."""
        self.full = self.full or self._free() < _BLOCK_BYTES
        size = _size(self._log)
        begin = self._read if size >= self._read else 0  # a new file of the rotation
        self._read = size
        if size == begin:
            return
        with self._log.open("rb") as log:
            log.seek(begin)
            self.full = self.full or _SAYS in log.read(size - begin)

    @property
    def has_room(self) -> bool:
        """Whether there is enough for the broker to begin with: 64 MiB."""
        return self._free() >= _ROOM_BYTES

    def _free(self) -> int:
        try:
            return shutil.disk_usage(self._streams).free
        except OSError:  # the broker has not made the folder yet
            return _ROOM_BYTES


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
