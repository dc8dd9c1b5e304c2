"""What a takeover knows of inboxes and lives: the checkpoint and the records behind it [A2, A3, A5, A19]."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from libs.contracts.accounts import Credits
from libs.contracts.inbox import Outcome
from libs.contracts.journal import (
    CheckpointHead,
    CheckpointPage,
    Effort,
    ItemArrived,
    ItemSettled,
    RollUpCost,
    ShardRecord,
    StoredLife,
)
from libs.contracts.lives import Spent
from services.scheduler.account import NOTHING
from services.scheduler.accounts import window_of
from services.scheduler.estimate import expected
from services.scheduler.inbox import Held, Inbox
from services.scheduler.ledger import Ledger
from services.scheduler.mail import IDS_KEPT, RECENT_SOURCES, Mail, digest
from services.scheduler.pages import Pages
from tests.unit.make import NOW, inbox_item, thought

NAMES = ("p", "q", "r")


class Writer:
    """Writes a journal as an owner may: what comes, thoughts of it, drops, and reaps at last."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw
        self._sequence = 0
        self._held: dict[str, list[int]] = {name: [] for name in NAMES}
        self._counts = dict.fromkeys(NAMES, 0)
        self._living = list(NAMES)

    def records(self) -> Iterator[ShardRecord]:
        for number in range(1, self._draw(st.integers(1, 14)) + 1):
            yield ShardRecord(number=number, **self._said())

    def _said(self) -> dict[str, Any]:
        kinds = self._draw(st.sets(st.sampled_from(["arrive", "think", "drop", "reap"]), min_size=1))
        name = self._draw(st.sampled_from(self._living))
        said: dict[str, Any] = {}
        if "think" in kinds:
            said["thoughts"] = [self._thought(name)]
        if "arrive" in kinds:
            said["arrived"] = [self._arrived(name) for _ in range(self._draw(st.integers(1, 12)))]
        if "drop" in kinds and self._held[name]:
            said["dropped"] = [self._held[name].pop()]
        if "reap" in kinds and len(self._living) > 1 and self._draw(st.booleans()):
            said["reap"] = [name]
            self._living.remove(name)
            said.pop("arrived", None)
        return said

    def _arrived(self, name: str) -> ItemArrived:
        self._sequence += 1
        self._held[name].append(self._sequence)
        source = digest(self._draw(st.sampled_from(["", "room", "hall", "yard"])))
        return ItemArrived(name, self._sequence, self._sequence % 101, source, digest(f"i{self._sequence}"))

    def _thought(self, name: str) -> Any:
        self._counts[name] += 1
        made = thought(name, self._counts[name])
        if self._draw(st.booleans()):
            return structs.replace(made, effort=None)
        items = []
        for sequence in self._held[name][: self._draw(st.integers(0, 3))]:
            outcome = self._draw(st.sampled_from(Outcome))
            items.append(ItemSettled(sequence, outcome))
            if outcome in (Outcome.HANDLED, Outcome.ASIDE):
                self._held[name].remove(sequence)
        by_model = self._draw(st.booleans())
        signed = made.thought_count.to_bytes(4, "big")
        effort = Effort("observer", 7, 50, by_model, not by_model, signed, 0.5, items)
        return structs.replace(made, effort=effort)


@st.composite
def journals(draw: st.DrawFn) -> list[bytes]:
    return [msgspec.json.encode(record) for record in Writer(draw).records()]


def folded(records: list[bytes]) -> Ledger:
    ledger = Ledger(0)
    for sequence, data in enumerate(records, start=1):
        ledger.fold(sequence, data)
    return ledger


def known(ledger: Ledger) -> dict[str, Any]:
    """Everything that a takeover must not forget of the shard's personas."""
    return {
        name: (ledger.persona(name).count, found.get("lives"), found.get("mail"))
        for name in NAMES
        for found in [stored(ledger, name)]
    }


def stored(ledger: Ledger, name: str) -> dict[str, Any]:
    lives, mail = ledger.stored_lives([name]), ledger.stored_mail([name])
    return {"lives": lives.get(name), "mail": mail.get(name)}


def checkpointed(ledger: Ledger, sequence: int) -> CheckpointPage:
    pages = Pages(2**20)
    pages.touched(NAMES, ledger)
    data = msgspec.json.encode(pages.page(0, ledger, sequence))
    return msgspec.json.decode(data, type=CheckpointPage)


@pytest.mark.fact("A2")
@pytest.mark.fact("A3")
@pytest.mark.fact("A5")
@pytest.mark.fact("A19")
@given(journals(), st.data())
def test_a_checkpoint_and_the_rest_of_the_journal_say_what_the_whole_journal_says(
    records: list[bytes], data: st.DataObject
) -> None:
    """Wherever the journal was trimmed, and also where the page is ahead of its head."""
    head = data.draw(st.integers(0, len(records)), "head")
    page_at = data.draw(st.integers(head, len(records)), "page")
    kept = data.draw(st.integers(0, head), "trimmed up to")
    page = checkpointed(folded(records[:page_at]), page_at)
    before = folded(records[:head])
    again = Ledger(0)
    again.restore_head(
        CheckpointHead(
            sequence=head, number=head, halted=0, pages=1, received=before.received, settled=[*before.settled]
        )
    )
    for name, (count, tick) in page.counters.items():
        again.restore(name, count, tick, page.lives.get(name), page.mail.get(name), page.sequence)
    for sequence, record in enumerate(records[kept:], start=kept + 1):
        again.fold(sequence, record)
    whole = folded(records)
    assert known(again) == known(whole)
    assert again.settled == whole.settled
    held = [
        sequence for name in NAMES for sequence, *_ in (stored(whole, name)["mail"] or Mail().dump()).held
    ]
    again.apply(99, ShardRecord(dropped=held))
    assert all(mail is None or not mail.held for _, _, mail in known(again).values()), (
        "whose each is, is known"
    )


def arrived(number: int, source: str = "", name: str = "p") -> ItemArrived:
    return ItemArrived(name, number, 60, digest(source), digest(f"i{number}"))


@pytest.mark.fact("A3")
def test_sources_of_the_newest_items_are_recent_and_their_ids_known() -> None:
    mail = Mail()
    for number in range(IDS_KEPT + 10):
        mail.arrived(arrived(number, f"room {number}"))
    last = IDS_KEPT + 9
    assert mail.is_recent(f"room {last}") and mail.is_recent(f"room {last - RECENT_SOURCES + 1}")
    assert not mail.is_recent(f"room {last - RECENT_SOURCES}")
    mail.arrived(arrived(last + 1))
    assert not mail.is_recent(""), "an item of no known source makes none recent"
    assert mail.is_recent(f"room {last - RECENT_SOURCES + 1}"), "and displaces none"
    assert mail.knows(f"i{last + 1}") and not mail.knows("i0") and not mail.knows("another")


@pytest.mark.fact("A5")
def test_attempts_are_counted_on_before_the_inbox_is_read_and_in_it() -> None:
    ledger = Ledger(0, lambda: 0.0)
    ledger.apply(1, ShardRecord(number=1, arrived=[arrived(7)]))
    ledger.apply(2, ShardRecord(number=2, thoughts=[failing("p", 1, 7)]))
    standing = ledger.standing("p", 7, _unasked)
    assert (standing.base, standing.attempts) == (60, 1)
    entry = ledger.persona("p")
    entry.inbox = Inbox()
    held = Held(7, standing, 0.0, inbox_item())
    entry.inbox.add(held, 0.0)
    ledger.apply(3, ShardRecord(number=3, thoughts=[failing("p", 2, 7)]))
    assert (held.attempts, held.not_before) == (2, 4.0)


@pytest.mark.fact("A3")
def test_what_an_older_journal_does_not_tell_is_worked_out_once() -> None:
    ledger = Ledger(0)
    assert ledger.standing("p", 7, lambda: 40).base == 40
    assert ledger.standing("p", 7, _unasked).base == 40
    assert ledger.stored_mail(["p"])["p"].held == [(7, 40, 0)]


def test_a_life_of_an_older_checkpoint_is_taken_over() -> None:
    old = msgspec.json.decode(b"[[0.5,1,9.0],[3,420,900],1,1767323045.5,null]", type=StoredLife)
    ledger = Ledger(0)
    ledger.restore("p", 3, None, old)
    life = ledger.life("p")
    assert (life.thoughts, life.tokens, life.failures, life.recent, life.idle_s) == (3, 420, 1, (), 0.0)
    assert (life.cost, life.settlement) == (NOTHING, None), "it did not say them"


@pytest.mark.fact("A16")
def test_a_takeover_expects_what_the_last_thought_and_the_last_summary_have_cost() -> None:
    """Forgotten, ten slow thoughts began at once under a root that can pay for one."""
    ledger = Ledger(0)
    slow = Effort("observer", 800, 30_000, True, False)
    ledger.apply(1, ShardRecord(number=1, thoughts=[structs.replace(thought("p", 1), effort=slow)]))
    summed = RollUpCost("s", NOW, Spent(1, 700, 20_000))
    ledger.apply(2, ShardRecord(number=2, rolled_up=[("s", "r1")], roll_up_costs=[summed]))
    again = Ledger(0)
    again.restore_head(head_of(ledger, 2))
    page = checkpointed(ledger, 2)
    again.restore("p", 1, None, page.lives["p"], as_of=2)
    entry, least, minute = again.persona("p"), Credits(100_000, 100_000), window_of(NOW.timestamp())
    assert expected(entry, "Watch.", 256, least, minute) == Credits(960, 36_000)
    assert again.roll_ups.cost("s") == (Credits(700, 20_000), minute)
    assert entry.life is not None and entry.life.settlement == ledger.life("p").settlement is not None


def head_of(ledger: Ledger, sequence: int) -> CheckpointHead:
    """What stands in the head of a checkpoint of roll-ups."""
    head = CheckpointHead(
        sequence=sequence,
        number=ledger.number,
        halted=0,
        pages=1,
        rolled_up=ledger.roll_ups.dump_ids(),
        roll_ups_spent=ledger.roll_ups.dump_spent(),
        roll_up_costs=ledger.roll_ups.dump_costs(),
    )
    return msgspec.json.decode(msgspec.json.encode(head), type=CheckpointHead)


def failing(name: str, count: int, sequence: int) -> Any:
    effort = Effort("observer", 0, 9, False, True, items=[ItemSettled(sequence, Outcome.FAILED)])
    return structs.replace(thought(name, count), effort=effort)


def _unasked() -> int:
    raise AssertionError("the journal knows it")
