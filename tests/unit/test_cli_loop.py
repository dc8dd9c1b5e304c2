"""What `perpetua status` says where nobody is left to think."""

from __future__ import annotations

from typing import Any

import pytest

from libs.cli.commands.loop import show

EVERYBODY = "none of 3 personas is active"
NOBODY = "there is no persona"


@pytest.mark.parametrize(
    ("running", "active", "of", "said"),
    [(True, 0, 3, EVERYBODY), (True, 0, 0, NOBODY), (True, 1, 3, None), (False, 0, 3, None)],
)
def test_nobody_thinks_and_why(
    capsys: pytest.CaptureFixture[str], running: bool, active: int, of: int, said: str | None
) -> None:
    answer: dict[str, Any] = {"running": running, "active_persona_count": active, "persona_count": of}
    show(answer, as_json=False)
    shown = capsys.readouterr().out
    assert ("Nobody thinks" in shown) == (said is not None)
    assert said is None or f"Nobody thinks: {said}. `perpetua personas create`" in shown
