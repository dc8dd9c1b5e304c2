"""Follow the thoughts of a running swarm. It needs nats-py, and nothing of this project."""

import asyncio
import json
import sys

import nats


async def main(url: str = "nats://127.0.0.1:4222") -> None:
    client = await nats.connect(url)
    events = await client.subscribe("perpetua.events.>")
    async for message in events.messages:
        event = json.loads(message.data)
        print(event["persona_id"], event["event_type"], event["payload"].get("thinking", ""), flush=True)


asyncio.run(main(*sys.argv[1:]))
