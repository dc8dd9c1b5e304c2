"""What each NATS user may publish and subscribe to: the least that its process needs, and nothing else.

A service answers on the inboxes of those who ask it, named one by one: `allow_responses` forgets who asked
when the connection is lost, so an answer after a reconnect would be denied. Only the registry has it too, for
whoever lists micro services.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from libs.contracts import streams, subjects

SERVICES = ("registry", "scheduler", "thinker", "compressor", "gateway")
ADMIN = "admin"
"""Makes streams, and is who the command line and `perpetua up` itself are."""

READER = "reader"
"""For subscribers of yours: public events and snapshots, live and as they are stored."""

SENDER = "sender"
"""For programs of yours that send to personas over NATS."""

ANONYMOUS = "anonymous"
"""Who shows no key, where the broker lets anybody in: public events as they come."""

_API = "$JS.API."
_ANSWERS = 1


class Permissions(Struct, frozen=True, kw_only=True):
    """What a user may do."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    responses: int = 0
    """How often it may answer each message that it receives with a reply subject, wherever that leads."""


def inbox(user: str) -> str:
    """Return the prefix of a user's inboxes: for who is none of ours that of every client."""
    return "_INBOX" if user in (READER, SENDER, ANONYMOUS) else f"_INBOX_{user}"


def permissions() -> dict[str, Permissions]:
    """Return what each user with a key may do."""
    return {
        "registry": _service(
            "registry",
            publish=[
                subjects.JOURNAL, _key(streams.PERSONAS), _key(streams.CONTROL), subjects.SCHEDULER_STATUS,
                *_api("STREAM.INFO", "*"),
                *_api("STREAM.PURGE", streams.JOURNAL),
                *_api("STREAM.MSG.GET", streams.JOURNAL, streams.PERSONAS, streams.CONTROL),
                *_follow(streams.JOURNAL, streams.PERSONAS, streams.LEASES),
                *_present(),
                *_answer("gateway", "scheduler", ADMIN),
            ],
            subscribe=[
                subjects.registry("*"), subjects.HALTED, subjects.POSITION,
                "$SRV.*", "$SRV.*.registry", "$SRV.*.registry.*",
            ],
            responses=_ANSWERS,
        ),
        "scheduler": _service(
            "scheduler",
            publish=[
                subjects.JOURNAL, subjects.THINK, subjects.HALTED, subjects.WAITING,
                _key(streams.CHECKPOINTS), _key(streams.POSTS),
                subjects.dead_letter(streams.THINK), subjects.dead_letter(streams.INBOX),
                "perpetua.accounts.*", subjects.registry(subjects.REAP),
                *_api("STREAM.PURGE", streams.JOURNAL),
                *_api("STREAM.MSG.DELETE", streams.THINK, streams.INBOX),
                *_api(
                    "STREAM.MSG.GET",
                    streams.JOURNAL, streams.THINK, streams.PERSONAS, streams.CONTROL, streams.CHECKPOINTS,
                    streams.EVENTS, streams.POSTS,
                ),
                *_api("DIRECT.GET", streams.EVENTS),
                *_follow(streams.JOURNAL, streams.PERSONAS, streams.LEASES, streams.INBOX, streams.POSTS),
                *_present(),
                *_answer("gateway", "thinker", "registry", "scheduler", "compressor"),
            ],
            subscribe=[
                *(
                    f"perpetua.{kind}.*"
                    for kind in (
                        "grant", "thinking", "result", "counters", "accounts", "held", "spend", "roll_up",
                        "roll_up_credits",
                    )
                ),
                subjects.SCHEDULER_STATUS, subjects.POSITION, subjects.WAITING, subjects.WORK_EXHAUSTED,
                subjects.EVENTS,
            ],
        ),
        "thinker": _service(
            "thinker",
            publish=[
                *(f"perpetua.{kind}.*" for kind in ("grant", "thinking", "result")),
                subjects.CAPTURES, subjects.dead_letter(streams.THINK),
                f"{_API}CONSUMER.MSG.NEXT.{streams.THINK}.{streams.THINKERS}",
                f"$JS.ACK.{streams.THINK}.{streams.THINKERS}.>",
                *_answer("compressor"),
            ],
            subscribe=[subjects.SUMMARIES],
        ),
        "compressor": _service(
            "compressor",
            publish=[
                subjects.EVENTS_IN, subjects.SNAPSHOTS_IN, _key(streams.PROPOSALS), subjects.POSITION,
                subjects.dead_letter(streams.JOURNAL), subjects.SUMMARIES,
                "perpetua.roll_up.*", "perpetua.roll_up_credits.*",
                *_api("STREAM.INFO", streams.EVENTS, streams.SNAPSHOTS, streams.PROPOSALS),
                *_api("STREAM.MSG.GET", streams.EVENTS, streams.SNAPSHOTS, streams.PROPOSALS),
                *_follow(streams.JOURNAL, streams.LEASES),
                *_present(),
            ],
            subscribe=[],
        ),
        "gateway": _service(
            "gateway",
            publish=[
                subjects.registry("*"), subjects.SCHEDULER_STATUS,
                *(f"perpetua.{kind}.*" for kind in ("counters", "held", "spend")),
                subjects.INBOX, _key(streams.POSTS), _key(streams.SENT),
                *_api("STREAM.MSG.GET", streams.SENT),
                *_api("STREAM.INFO", streams.EVENTS, streams.SNAPSHOTS),
                *_api("DIRECT.GET", streams.EVENTS, streams.SNAPSHOTS),
                *_follow(streams.EVENTS, streams.LEASES),
                *_present(),
                *_answer(ADMIN, SENDER),
            ],
            subscribe=[subjects.SEND, subjects.SEND_SWARM],
        ),
        ADMIN: Permissions(
            publish=(
                f"{_API}>", "$JS.ACK.>", "$JS.FC.>", "$JS.SNAPSHOT.>", "$SRV.>", subjects.registry("*"),
                subjects.DEAD_LETTERS, subjects.THINK, subjects.INBOX, subjects.SEND, subjects.SEND_SWARM,
                _key(streams.LEASES),
            ),
            subscribe=(
                f"{inbox(ADMIN)}.>", subjects.EVENTS, subjects.SNAPSHOTS, subjects.CAPTURES,
                subjects.DEAD_LETTERS, subjects.CRASHED,
            ),
        ),
        READER: Permissions(
            publish=(
                *_api("STREAM.INFO", streams.EVENTS, streams.SNAPSHOTS),
                *_api("DIRECT.GET", streams.EVENTS, streams.SNAPSHOTS),
                *(f"{_API}DIRECT.GET.{stream}.>" for stream in (streams.EVENTS, streams.SNAPSHOTS)),
            ),
            subscribe=(f"{inbox(READER)}.>", subjects.EVENTS, subjects.SNAPSHOTS),
        ),
        SENDER: Permissions(
            publish=(subjects.SEND, subjects.SEND_SWARM), subscribe=(f"{inbox(SENDER)}.>",)
        ),
    }  # fmt: skip


ANYBODY = Permissions(publish=(), subscribe=(subjects.EVENTS,))
"""What who shows no key may do, where that is allowed at all."""


def _service(
    name: str, *, publish: Iterable[str], subscribe: Iterable[str], responses: int = 0
) -> Permissions:
    """Return what a service may do: its own, and what every process does to be there at all."""
    everybody = (
        f"$KV.leases.{name}.*",
        f"perpetua.crashed.{name}.*",
        *_api("STREAM.MSG.GET", streams.LEASES),
        f"{_API}CONSUMER.INFO.{streams.THINK}.{streams.THINKERS}",
    )
    return Permissions(
        publish=tuple(dict.fromkeys((*publish, *everybody))),
        subscribe=(f"{inbox(name)}.>", subjects.CRASHED, *subscribe),
        responses=responses,
    )


def _api(verb: str, *names: str) -> list[str]:
    return [f"{_API}{verb}.{name}" for name in names]


def _follow(*names: str) -> list[str]:
    """Return what reading streams in order takes; `libs.bus.follow`."""
    wanted = _api("STREAM.INFO", *names) + _api("STREAM.MSG.GET", *names)
    wanted += [f"{_API}CONSUMER.CREATE.{name}.*" for name in names]
    return wanted + [f"$JS.FC.{name}.>" for name in names]


def _present() -> list[str]:
    """Return what reading who is there takes."""
    return _api("DIRECT.GET", streams.LEASES)


def _answer(*users: str) -> list[str]:
    return [f"{inbox(user)}.>" for user in users]


def _key(bucket: str) -> str:
    return f"$KV.{bucket.removeprefix('KV_')}.>"
