"""Phases by thought count [3.1]."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.cognition.phases import event_of, makes_proposal, phase_of
from libs.contracts.thoughts import EventType, Phase


@pytest.mark.fact("3.1")
def test_the_phases_come_in_their_order_from_the_first_thought_on() -> None:
    assert [phase_of(count) for count in range(1, 9)] == ["observe", "reflect", "test", "compress"] * 2


@pytest.mark.fact("3.1")
@given(st.integers(1, 2**64))
def test_the_phase_hangs_on_the_count_modulo_4_alone(count: int) -> None:
    names = {1: Phase.OBSERVE, 2: Phase.REFLECT, 3: Phase.TEST, 0: Phase.COMPRESS}
    assert phase_of(count) is names[count % 4]


@pytest.mark.fact("3.1")
def test_each_phase_has_its_event() -> None:
    assert {phase: event_of(phase) for phase in Phase} == {
        Phase.OBSERVE: EventType.THOUGHT_GENERATED,
        Phase.REFLECT: EventType.HYPOTHESIS_RAISED,
        Phase.TEST: EventType.CHECK_REQUESTED,
        Phase.COMPRESS: EventType.SNAPSHOT_COMPRESSED,
    }


@pytest.mark.fact("3.8")
def test_the_second_of_eight_thoughts_makes_a_proposal() -> None:
    assert [count for count in range(1, 25) if makes_proposal(count)] == [2, 10, 18]


@pytest.mark.fact("3.8")
@given(st.integers(1, 2**32))
def test_only_a_reflect_phase_makes_a_proposal(count: int) -> None:
    assert not makes_proposal(count) or phase_of(count) is Phase.REFLECT


@pytest.mark.fact("3.14")
def test_there_are_eleven_types_of_events() -> None:
    assert {str(kind) for kind in EventType} == {
        "thought_generated",
        "hypothesis_raised",
        "check_requested",
        "check_result",
        "proposal_created",
        "proposal_verified",
        "proposal_rejected",
        "action_executed",
        "persona_spawned",
        "persona_reaped",
        "snapshot_compressed",
    }
