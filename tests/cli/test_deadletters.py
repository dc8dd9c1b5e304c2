"""`perpetua deadletters retry` of what nobody could read."""

from __future__ import annotations

import json

from libs.bus.connection import Bus
from libs.bus.queue import bury
from libs.contracts import streams
from tests.bus.support import held
from tests.cli.test_backup import perpetua
from tests.support.broker import Broker


async def test_a_letter_of_an_inbox_is_delivered_again_and_one_of_a_journal_is_not(
    bus: Bus, broker: Broker
) -> None:
    for stream, subject in ((streams.INBOX, "inbox.3.ann"), (streams.JOURNAL, "j.3")):
        await bury(bus, stream, subject, b"unreadable", "no inbox item", 1)
    one, two = json.loads(perpetua("deadletters", "list", "--json", "--nats-url", broker.url).stdout)
    again = perpetua("deadletters", "retry", str(one["number"]), "--nats-url", broker.url)
    assert again.returncode == 0, again.stderr
    assert "delivered to inbox.3.ann once more" in again.stdout
    assert [(m.subject, m.data) for m in await held(bus, streams.INBOX)] == [("inbox.3.ann", b"unreadable")]
    refused = perpetua("deadletters", "retry", str(two["number"]), "--nats-url", broker.url)
    assert (refused.returncode, "j.3 is a journal" in refused.stderr) == (1, True)
    left = json.loads(perpetua("deadletters", "list", "--json", "--nats-url", broker.url).stdout)
    assert [letter["number"] for letter in left] == [two["number"]]


async def test_a_letter_that_holds_only_a_beginning_is_not_delivered_again(bus: Bus, broker: Broker) -> None:
    body = b"x" * (1024 * 1024 + 1)
    await bury(bus, streams.INBOX, "inbox.3.ann", body, "no inbox item", 1)
    (kept,) = json.loads(perpetua("deadletters", "list", "--json", "--nats-url", broker.url).stdout)
    refused = perpetua("deadletters", "retry", str(kept["number"]), "--nats-url", broker.url)
    assert (refused.returncode, "holds only the beginning" in refused.stderr) == (1, True)
    assert await held(bus, streams.INBOX) == []
