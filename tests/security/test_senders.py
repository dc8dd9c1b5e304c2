"""Who may send over NATS may send, and nothing else: asked of a real broker and the gateway's endpoints."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import nats
import pytest
from structlog.testing import capture_logs

from libs.bus.connection import ERROR_CODE, ERROR_TEXT
from libs.bus.telemetry import NoTelemetry
from libs.contracts import subjects
from libs.contracts.inbox import Accepted, InboxItem, SwarmAccepted
from libs.contracts.permissions import SENDER
from libs.contracts.tokens import encode
from libs.supervisor.keys import seed_file
from services.gateway.problems import Problem
from services.gateway.rates import Rates
from services.gateway.senders import senders
from tests.bus.support import held
from tests.security.support import GuardedBroker
from tests.services.asking import Asked, answering_registry
from tests.support.broker import HOST
from tests.support.eventually import eventually
from tests.unit.make import create

BODY = b'{"content": "Is it calm?"}'


class Sender:
    """A program of somebody's with the key of a sender, and what the gateway stands on."""

    def __init__(self, client: Any, gateway: Any, asked: Asked, admin: Any) -> None:
        self.client = client
        self.gateway = gateway
        self.asked = asked
        self.admin = admin

    async def ask(self, subject: str, body: bytes = BODY) -> Any:
        return await self.client.request(subject, body, timeout=30)

    async def items(self) -> list[InboxItem]:
        return [msgspec.json.decode(one.data, type=InboxItem) for one in await held(self.admin, "INBOX")]

    async def refused(self, subject: str, body: bytes = BODY) -> Problem:
        answer = await self.ask(subject, body)
        problem = msgspec.json.decode(answer.data, type=Problem)
        assert answer.headers[ERROR_CODE] == str(problem.status)
        assert answer.headers[ERROR_TEXT] == problem.detail
        return problem


@asynccontextmanager
async def sender(guarded: GuardedBroker, per_s: int = 0) -> AsyncIterator[Sender]:
    """For the rate of senders time stands still."""
    client = await nats.connect(guarded.url, nkeys_seed=str(seed_file(guarded.keys, SENDER)))
    try:
        async with (
            guarded.connected("registry") as (registry_bus, _),
            guarded.connected("gateway") as (gateway, noted),
            guarded.connected("admin") as (admin, _),
            answering_registry(registry_bus, asked_over=gateway) as asked,
            senders(gateway, asked.sending, Rates(per_s, lambda: 0.0), NoTelemetry()),
        ):
            for name in ("ann", "b/ob"):
                await asked.registry.create(create(name, swarm_id="s 1"))
            await gateway.client.flush()
            yield Sender(client, gateway, asked, admin)
            assert [fault for fault in noted.faults if fault.kind == "denied"] == []
    finally:
        await client.close()


@pytest.mark.fact("A1")
async def test_an_item_is_sent_with_one_request(guarded: GuardedBroker) -> None:
    async with sender(guarded) as one:
        answer = await one.ask(subjects.send("b/ob"), b'{"content": "Is it calm?", "priority": 1}')
        accepted = msgspec.json.decode(answer.data, type=Accepted)
        assert (accepted.persona_id, answer.headers) == ("b/ob", None)
        (item,) = await one.items()
        assert (item.id, item.persona_id, item.priority) == (accepted.item_id, "b/ob", 1.0)


@pytest.mark.fact("A1")
@pytest.mark.fact("A5")
async def test_a_post_is_sent_with_one_request(guarded: GuardedBroker) -> None:
    async with sender(guarded) as one:
        answer = await one.ask(subjects.send_swarm("s 1"), b'{"content": "All?", "answers_most": 1}')
        accepted = msgspec.json.decode(answer.data, type=SwarmAccepted)
        assert (accepted.swarm_id, accepted.personas) == ("s 1", 2)
        assert {item.persona_id for item in await one.items()} == {"ann", "b/ob"}


NOBODY_S = ["_", "=5f", "=41nn", "=FF", "=2E", "=2E=2E", "=00", "a%2Fb", "=", "a=2", "é"]


async def test_a_subject_that_is_nobody_s_is_refused_with_the_rule(guarded: GuardedBroker) -> None:
    """A persona has one subject: what another spelling of it would reach is left to no reading."""
    async with sender(guarded) as one:
        for token in [*NOBODY_S, encode("x" * 129)]:
            for subject in (f"perpetua.inbox.{token}", f"perpetua.inbox_swarm.{token}"):
                problem = await one.refused(subject)
                assert (problem.status, "the last token of the subject" in problem.detail) == (400, True)
        assert await one.items() == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not valid JSON"),
        (b"null", "body: Expected `object`"),
        (b"{}", "required field `content`"),
        (b'{"content": ""}', "content: "),
        (b'{"content": "c", "priority": 2}', "priority: "),
        (b'{"content": "c", "priority": "1"}', "priority: "),
        (b'{"content": "c", "timestamp": "2026-01-02T03:04:05"}', "timestamp: "),
        (b'{"content": "c", "id": "a b"}', "id: "),
        (b"\xff", "not valid UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"content": "' + b"x" * 8001 + b'"}', "content: "),
    ],
)
async def test_a_body_that_does_not_fit_is_refused_by_its_field(
    guarded: GuardedBroker, body: bytes, words: str
) -> None:
    async with sender(guarded) as one:
        for subject in (subjects.send("ann"), subjects.send_swarm("s 1")):
            problem = await one.refused(subject, body)
            assert (problem.status, problem.title) == (400, "Invalid request")
            assert words in problem.detail
        assert await one.items() == []


async def test_who_is_not_there_is_told_as_over_http(guarded: GuardedBroker) -> None:
    async with sender(guarded) as one:
        assert (await one.refused(subjects.send("nobody"))).detail == "Persona not found: nobody"
        assert (await one.refused(subjects.send_swarm("none"))).detail == "No persona of swarm none lives"
        await one.asked.reap("ann")
        assert (await one.refused(subjects.send("ann"))).status == 409


async def test_a_sender_cannot_have_the_gateway_publish_for_it(guarded: GuardedBroker) -> None:
    """An answer that went where the sender wishes could stop the loop: a gateway may ask for that."""
    asked_for: list[str] = []
    async with sender(guarded) as one:
        async with guarded.connected("registry") as (registry, _):
            await registry.client.subscribe("perpetua.registry.*", cb=_noting(asked_for))
            await registry.client.flush()
            with capture_logs() as logs:
                for reply in (
                    "perpetua.registry.stop",
                    "perpetua.registry.start",
                    "inbox.3.ann",
                    "$KV.posts.x",
                    "$JS.API.STREAM.INFO.EVENTS",
                ):
                    await one.client.publish("perpetua.inbox.ann", BODY, reply=reply)
                await eventually(
                    lambda: sum(line["event"] == "answer_not_sent" for line in logs) == 5,
                    what="each answer kept back",
                )
            await one.ask(subjects.send("ann"))
        assert not {"perpetua.registry.stop", "perpetua.registry.start"} & set(asked_for)
        assert len(await held(one.admin, "INBOX", "inbox.3.*")) == 0
        assert await held(one.admin, "KV_posts") == []


def _noting(seen: list[str]) -> Any:
    async def note(message: Any) -> None:
        seen.append(message.subject)

    return note


async def test_what_is_no_message_does_not_deafen_the_gateway(guarded: GuardedBroker) -> None:
    async with sender(guarded) as one:
        raw = await _raw(guarded)
        raw.sendall(b"PUB perpetua.inbox.\xff 1\r\nx\r\nPUB perpetua.inbox.ann \xff 1\r\nx\r\n")
        await asyncio.sleep(0)
        for _ in range(3):
            assert (await one.ask(subjects.send("ann"))).headers is None
        raw.close()


async def _raw(guarded: GuardedBroker) -> socket.socket:
    """A connection with a sender's key, without a library's checks."""
    import base64
    import json

    import nkeys

    raw = socket.create_connection((HOST, guarded.port))
    info = json.loads(raw.recv(4096).removeprefix(b"INFO "))
    key = nkeys.from_seed(seed_file(guarded.keys, SENDER).read_bytes().strip())
    said = {
        "verbose": False,
        "headers": True,
        "nkey": key.public_key.decode(),
        "sig": base64.urlsafe_b64encode(key.sign(info["nonce"].encode())).rstrip(b"=").decode(),
    }
    raw.sendall(b"CONNECT " + json.dumps(said).encode() + b"\r\nPING\r\n")
    assert raw.recv(4096).startswith(b"PONG")
    return raw


async def test_all_senders_together_are_one_client_with_a_client_s_rate(guarded: GuardedBroker) -> None:
    async with sender(guarded, per_s=5) as one:
        answers = await asyncio.gather(*(one.ask(subjects.send("ann")) for _ in range(20)))
        refused = [answer for answer in answers if answer.headers]
        assert len(refused) == 20 - 2 * 5, "a burst is admitted"
        assert {answer.headers[ERROR_CODE] for answer in refused} == {"429"}
        assert msgspec.json.decode(refused[0].data, type=Problem).title == "Too many requests"


async def test_of_two_gateways_one_stores_it(guarded: GuardedBroker) -> None:
    async with sender(guarded) as one, guarded.connected("gateway") as (second, _):
        rates = Rates(0, asyncio.get_running_loop().time)
        async with senders(second, one.asked.sending, rates, NoTelemetry()):
            await second.client.flush()
            for _ in range(20):
                await one.ask(subjects.send("ann"))
            assert len(await one.items()) == 20


async def test_many_requests_side_by_side_are_each_answered(guarded: GuardedBroker) -> None:
    async with sender(guarded) as one:
        answers = await asyncio.gather(*(one.ask(subjects.send("ann")) for _ in range(200)))
        assert all(answer.headers is None for answer in answers)
        assert len({item.id for item in await one.items()}) == 200
