"""The circuit breaker by itself: pure, with a clock of the test's own."""

from __future__ import annotations

import pytest

from services.thinker.backends.breaker import (
    ASKED_PAUSE_MOST_S,
    FAILED_SHARE,
    FAILURES,
    HOPELESS_PAUSE_S,
    PAUSE_MOST_S,
    PAUSE_S,
    WINDOW,
    Breaker,
    Permit,
    State,
    Transition,
)
from services.thinker.backends.faults import EndpointError, Outcome, Weight


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Circuit:
    """A breaker, its clock, and what it told."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.told: list[Transition] = []
        self.breaker = Breaker(self.clock, self.told.append, lambda: 0.0)

    def permit(self) -> Permit:
        permit = self.breaker.admit()
        assert permit is not None
        return permit

    def fail(self, times: int = 1, *, weighs: Weight = Weight.ONE, retry_after: float | None = None) -> None:
        for _ in range(times):
            self.permit().failed(fault(weighs, retry_after))

    def at(self) -> State:
        return self.breaker.state

    def pause(self) -> float:
        return self.told[-1].pause

    def pass_pause(self) -> None:
        self.clock.now += self.pause()


def fault(
    weighs: Weight = Weight.ONE, retry_after: float | None = None, text: str = "HTTP 503: busy"
) -> EndpointError:
    return EndpointError(text, Outcome.SERVER_ERROR, "wait", weighs=weighs, retry_after=retry_after)


@pytest.fixture
def circuit() -> Circuit:
    return Circuit()


def test_failures_in_a_row_open_it_and_no_fewer(circuit: Circuit) -> None:
    circuit.fail(FAILURES - 1)
    assert circuit.at() is State.CLOSED
    circuit.fail()
    assert circuit.at() is State.OPEN
    assert circuit.breaker.admit() is None
    assert [t.state for t in circuit.told] == [State.OPEN]


def test_while_it_is_open_it_says_how_much_of_the_pause_is_left(circuit: Circuit) -> None:
    assert circuit.breaker.pause_left == 0.0
    circuit.fail(FAILURES)
    circuit.clock.now += 0.25
    assert circuit.breaker.pause_left == circuit.pause() - 0.25
    circuit.pass_pause()
    assert circuit.breaker.pause_left == 0.0


def test_one_answer_in_between_begins_the_count_anew(circuit: Circuit) -> None:
    circuit.fail(FAILURES - 1)
    circuit.permit().succeeded()
    circuit.fail(FAILURES - 1)
    assert circuit.at() is State.CLOSED


def test_a_failure_that_says_all_opens_it_at_once_and_for_longer(circuit: Circuit) -> None:
    circuit.fail(weighs=Weight.ALL)
    assert circuit.at() is State.OPEN
    assert circuit.pause() == HOPELESS_PAUSE_S


def test_a_failure_of_one_prompt_says_nothing_of_the_endpoint(circuit: Circuit) -> None:
    circuit.fail(10 * FAILURES, weighs=Weight.NONE)
    assert circuit.at() is State.CLOSED


def test_after_the_pause_one_probe_is_made_and_only_one(circuit: Circuit) -> None:
    circuit.fail(FAILURES)
    circuit.clock.now += PAUSE_S - 0.001
    assert circuit.breaker.admit() is None
    circuit.clock.now += 0.001
    assert circuit.breaker.wait == 0
    circuit.permit()
    assert circuit.at() is State.HALF_OPEN
    circuit.clock.now += 1000
    assert circuit.breaker.admit() is None, "the probe is still under way"


def test_a_probe_that_is_answered_closes_it_and_forgets_the_past(circuit: Circuit) -> None:
    circuit.fail(FAILURES)
    circuit.pass_pause()
    circuit.permit().succeeded()
    assert (circuit.at(), circuit.breaker.because) == (State.CLOSED, None)
    circuit.fail(FAILURES - 1)
    assert circuit.at() is State.CLOSED
    circuit.fail()
    assert circuit.pause() == PAUSE_S


@pytest.mark.fact("H10")
def test_each_probe_that_fails_doubles_the_pause_up_to_its_most(circuit: Circuit) -> None:
    circuit.fail(FAILURES)
    pauses = [circuit.pause()]
    for _ in range(9):
        circuit.pass_pause()
        circuit.fail()
        pauses.append(circuit.pause())
    assert pauses == [1, 2, 4, 8, 16, 32, PAUSE_MOST_S, PAUSE_MOST_S, PAUSE_MOST_S, PAUSE_MOST_S]


def test_so_large_a_share_of_failures_opens_it_though_answers_come_between(circuit: Circuit) -> None:
    """With one answer among ten, and never ten failures in a row."""
    requests = 0
    while circuit.at() is State.CLOSED:
        requests += 1
        if requests % FAILURES:
            circuit.fail()
        else:
            circuit.permit().succeeded()
    assert circuit.at() is State.OPEN
    assert requests - requests // FAILURES == FAILED_SHARE * WINDOW


def test_a_smaller_share_of_failures_does_not(circuit: Circuit) -> None:
    fewer = int(4 * FAILED_SHARE) - 1
    for _ in range(WINDOW):
        circuit.fail(fewer)
        for _ in range(4 - fewer):
            circuit.permit().succeeded()
    assert circuit.told == []


def test_what_failed_before_it_opened_is_no_part_of_the_share_after(circuit: Circuit) -> None:
    for _ in range(3):
        circuit.fail(FAILURES - 1)
        circuit.permit().succeeded()
    circuit.fail(weighs=Weight.ALL)
    circuit.pass_pause()
    circuit.permit().succeeded()
    circuit.fail(FAILURES - 1)
    assert circuit.at() is State.CLOSED


def test_a_server_that_asks_for_a_pause_gets_it_at_once_and_is_asked_again_without_a_probe(
    circuit: Circuit,
) -> None:
    circuit.fail(retry_after=42.0)
    assert (circuit.at(), circuit.pause(), circuit.breaker.wait) == (State.HELD, 42.0, 42.0)
    assert circuit.breaker.admit() is None
    circuit.clock.now += 41.9
    assert circuit.breaker.admit() is None
    circuit.clock.now += 0.1
    several = [circuit.permit() for _ in range(3)]
    assert (circuit.at(), circuit.breaker.because) == (State.CLOSED, None)
    for permit in several:
        permit.succeeded()
    assert [t.state for t in circuit.told] == [State.HELD, State.CLOSED]


def test_a_server_that_refuses_nine_in_ten_and_says_when_to_come_back_is_asked_so_often_and_no_more(
    circuit: Circuit,
) -> None:
    """For 50 of the 60 seconds that it asks for; 20 thoughts a second."""
    admitted = 0
    for number in range(1000):
        if (permit := circuit.breaker.admit()) is not None:
            admitted += 1
            permit.succeeded() if number % 10 == 0 else permit.failed(fault(retry_after=60.0))
        circuit.clock.now += 0.05
    assert admitted == 2, "an answer and a refusal"


def test_an_error_of_the_server_silences_nobody_for_a_day(circuit: Circuit) -> None:
    circuit.fail(retry_after=86_400.0)
    assert circuit.pause() == ASKED_PAUSE_MOST_S
    circuit.pass_pause()
    circuit.permit()


def test_a_pause_is_the_longest_that_the_server_asked_for(circuit: Circuit) -> None:
    under_way = [circuit.permit() for _ in range(3)]
    for permit, asked in zip(under_way, (20.0, 30.0, 10.0), strict=True):
        permit.failed(fault(retry_after=asked))
    assert (circuit.breaker.wait, len(circuit.told)) == (30.0, 2)


def test_what_is_under_way_when_a_pause_begins_still_counts(circuit: Circuit) -> None:
    under_way = [circuit.permit() for _ in range(FAILURES)]
    for permit in under_way[:-1]:
        permit.failed(fault(retry_after=20.0))
    assert circuit.at() is State.HELD
    under_way[-1].failed(fault())
    assert (circuit.at(), circuit.pause()) == (State.OPEN, 20.0), "no probe sooner than it asked for"


def test_an_answer_of_what_was_under_way_does_not_end_a_pause(circuit: Circuit) -> None:
    early = circuit.permit()
    circuit.fail(retry_after=20.0)
    early.succeeded()
    assert circuit.breaker.wait == 20.0


def test_the_pause_after_a_probe_is_as_long_as_the_server_asks_within_bounds(circuit: Circuit) -> None:
    circuit.fail(FAILURES)
    circuit.pass_pause()
    circuit.fail(retry_after=42.0)
    assert (circuit.at(), circuit.pause()) == (State.OPEN, 42.0)
    circuit.pass_pause()
    circuit.fail(retry_after=1e9)
    assert circuit.pause() == ASKED_PAUSE_MOST_S


def test_a_refusal_of_one_prompt_shows_that_the_endpoint_is_back(circuit: Circuit) -> None:
    circuit.fail(FAILURES)
    circuit.pass_pause()
    circuit.fail(weighs=Weight.NONE)
    assert circuit.at() is State.CLOSED


def test_a_probe_that_is_given_up_makes_room_for_the_next_at_once(circuit: Circuit) -> None:
    circuit.fail(FAILURES)
    circuit.pass_pause()
    circuit.permit().withdrawn()
    assert circuit.at() is State.OPEN
    circuit.permit().succeeded()
    assert circuit.at() is State.CLOSED


def test_what_was_asked_before_it_opened_counts_for_nothing_after(circuit: Circuit) -> None:
    early = [circuit.permit() for _ in range(3)]
    circuit.fail(FAILURES)
    early[0].succeeded()
    early[1].failed(fault(text="HTTP 401: late", weighs=Weight.ALL))
    assert circuit.at() is State.OPEN
    assert str(circuit.breaker.because) == "HTTP 503: busy"
    circuit.pass_pause()
    circuit.permit().succeeded()
    early[2].failed(fault(weighs=Weight.ALL))
    assert circuit.at() is State.CLOSED


def test_pauses_of_several_thinkers_differ() -> None:
    """Or they would all probe in the same moment."""
    pauses = []
    for share in (0.0, 0.5, 1.0):
        told: list[Transition] = []
        breaker = Breaker(Clock(), told.append, lambda share=share: share)  # type: ignore[misc]
        permit = breaker.admit()
        assert permit is not None
        permit.failed(fault(weighs=Weight.ALL))
        pauses.append(told[-1].pause)
    assert pauses[0] < pauses[1] < pauses[2] <= 1.1 * HOPELESS_PAUSE_S
