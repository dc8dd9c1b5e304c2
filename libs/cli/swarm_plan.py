"""What a swarm in a file and what is there differ in, and what can be done about it. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from msgspec import structs

from libs.cli.rows import BadRow, Row
from libs.cli.swarm_file import Described, Seed, SwarmFile, cycle
from libs.contracts.described import differences
from libs.contracts.personas import ImportedPersona, PersonaPolicy, PersonaRuntimeState, PersonaStatus

_SHOWN = 60


@dataclass(frozen=True)
class There:
    """What is there of a swarm, and of those that the file names beside it."""

    personas: dict[str, PersonaRuntimeState]
    default: PersonaPolicy
    """The policy of roots whose file says none."""

    sent: frozenset[tuple[str, str]] = frozenset()
    """Persona and item of each seed that was sent already."""

    def living(self, persona_id: str) -> PersonaRuntimeState | None:
        """Return a persona that was not reaped."""
        found = self.personas.get(persona_id)
        return found if found is not None and found.status is not PersonaStatus.REAPED else None


@dataclass(frozen=True)
class Waits:
    """For whom a persona is to wait from now on."""

    line: int
    persona_id: str
    now: list[str]
    wanted: list[str]


@dataclass
class Plan:
    """What is to be done, in the order in which it can be."""

    create: list[Row] = field(default_factory=list)
    wait: list[Waits] = field(default_factory=list)
    send: list[Seed] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    cannot: list[BadRow] = field(default_factory=list)
    """What the file asks for and no API can do to those that are there, each with the cure."""

    extra: list[str] = field(default_factory=list)
    """Who is in the swarm and not in a file that calls itself complete."""

    bad: list[BadRow] = field(default_factory=list)
    """What makes no sense together with what is there; nothing is to be sent then."""

    @property
    def steps(self) -> int:
        """How many things are to be done."""
        return len(self.create) + len(self.wait) + len(self.send)


def plan(file: SwarmFile, there: There) -> Plan:
    """Compare a file with what is there."""
    comparing = _Comparing(there)
    made = comparing.made
    for one in file.personas:
        comparing.place(one)
    for one in file.personas:
        comparing.wait(one)
    ours = [one for one in file.personas if one.row.persona.persona_id not in comparing.closed]
    made.send += [seed for one in ours for seed in one.seeds if seed.key not in there.sent]
    wrong = {bad.line for bad in made.cannot}
    changed = comparing.new | {one.persona_id for one in made.wait} | {one.persona_id for one in made.send}
    made.unchanged = [
        one.row.persona.persona_id
        for one in ours
        if one.row.line not in wrong and one.row.persona.persona_id not in changed
    ]
    now = {name: state.waiting_for for name, state in there.personas.items() if there.living(name)}
    made.bad += cycle(ours, now)
    made.bad += _bounds(made.create, there)
    if file.complete:
        made.extra = _extra(file, there)
    made.bad.sort(key=lambda bad: bad.line)
    made.cannot.sort(key=lambda bad: bad.line)
    return made


class _Comparing:
    """Compares personas, parents before their children."""

    def __init__(self, there: There) -> None:
        self.made = Plan()
        self.new: set[str] = set()
        self.closed: set[str] = set()
        """Those over whom the file has no say: reaped, of another swarm, or below such."""

        self._there = there

    def place(self, one: Described) -> None:
        """Say of a persona whether it is created, is there, or cannot be."""
        wanted = one.row.persona
        state = self._there.personas.get(wanted.persona_id)
        if state is None:
            self._create(one)
        elif state.status is PersonaStatus.REAPED:
            self._close(one, "was reaped, and no id is used again; give it another `id`")
        elif state.identity.swarm_id != wanted.swarm_id:
            swarm = state.identity.swarm_id
            where = f"is one of the swarm `{swarm}`" if swarm is not None else "has no swarm"
            self._close(one, f"{where}, and is left alone; give yours another `id`")
        else:
            self._compare(one, state)

    def wait(self, one: Described) -> None:
        """Plan for whom a persona waits."""
        persona_id = one.row.persona.persona_id
        if one.waiting_for is None or persona_id in self.closed:
            return
        for name in one.waiting_for:
            if name in self.new:
                continue
            if name not in self._there.personas and name not in self.closed:
                cure = "describe it, or take it out of `waiting_for`"
                self._bad(one, f"it waits for `{name}`, which is neither in the file nor there; {cure}")
                return
            if name in self.closed or self._there.living(name) is None:
                self._cannot(one, f"cannot wait for `{name}`, which is reaped or not this swarm's")
                return
        state = self._there.living(persona_id)
        now = state.waiting_for if state is not None else []
        if now != one.waiting_for:
            self.made.wait.append(Waits(one.row.line, persona_id, now, one.waiting_for))

    def _create(self, one: Described) -> None:
        parent_id = one.row.persona.parent_id
        if parent_id in self.closed:
            self._close(one, f"cannot be created: its parent `{parent_id}` is reaped or not this swarm's")
            return
        if parent_id is not None and parent_id not in self.new:
            state = self._there.personas.get(parent_id)
            if state is None:
                cure = "describe it, too"
                self._bad(one, f"its parent `{parent_id}` is neither in the file nor there; {cure}")
            elif state.status is PersonaStatus.REAPED:
                self._bad(one, f"its parent `{parent_id}` was reaped; name another one")
        self.new.add(one.row.persona.persona_id)
        self.made.create.append(one.row)

    def _compare(self, one: Described, state: PersonaRuntimeState) -> None:
        wanted = one.row.persona
        parent = self._there.personas.get(wanted.parent_id) if wanted.parent_id is not None else None
        bound = parent.policy if parent is not None else None
        found = differences(state.identity, state.policy, wanted, bound)
        if found:
            said = (f"{name} is {_short(now)}, not {_short(new)}" for name, (now, new) in found.items())
            self._cannot(one, f"cannot be changed: {'; '.join(said)}")

    def _close(self, one: Described, why: str) -> None:
        self.closed.add(one.row.persona.persona_id)
        self._cannot(one, why)

    def _cannot(self, one: Described, why: str) -> None:
        self.made.cannot.append(BadRow(one.row.line, f"`{one.row.persona.persona_id}` {why}"))

    def _bad(self, one: Described, why: str) -> None:
        self.made.bad.append(BadRow(one.row.line, why))


def _bounds(create: list[Row], there: There) -> Iterator[BadRow]:
    """Yield those that would live deeper, or beside more others, than the policy of their parent allows."""
    policies = {name: (state.policy, state.identity.depth) for name, state in there.personas.items()}
    children = Counter(
        state.identity.parent_id for name, state in there.personas.items() if there.living(name) is not None
    )
    for row in create:
        wanted = row.persona
        base, depth = policies.get(wanted.parent_id or "", (there.default, -1))
        if depth + 1 > base.max_spawn_depth and wanted.parent_id is not None:
            yield BadRow(row.line, _beyond(wanted, "max_spawn_depth", base.max_spawn_depth, depth + 1))
        children[wanted.parent_id] += 1
        if wanted.parent_id is not None and children[wanted.parent_id] == base.max_branching_factor + 1:
            most = base.max_branching_factor
            yield BadRow(row.line, _beyond(wanted, "max_branching_factor", most, most + 1))
        policy = wanted.policy.over(base) if wanted.policy is not None else base
        if wanted.parent_id is not None:
            depth_bound = min(policy.max_spawn_depth, base.max_spawn_depth)
            policy = structs.replace(policy, max_spawn_depth=depth_bound)
        policies[wanted.persona_id] = policy, depth + 1


def _beyond(wanted: ImportedPersona, bound: str, most: int, needed: int) -> str:
    whose = f"`{wanted.parent_id}`" if bound == "max_branching_factor" else "its root and those between"
    cure = f"say `{bound}: {needed}` or more in the policy of {whose}, which cannot change once it is there"
    return f"the {bound} of its parent `{wanted.parent_id}` is {most}; {cure}"


def _extra(file: SwarmFile, there: There) -> list[str]:
    named = {one.row.persona.persona_id for one in file.personas}
    return sorted(
        name
        for name, state in there.personas.items()
        if name not in named and state.identity.swarm_id == file.swarm and there.living(name) is not None
    )


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 2] + "…" + text[-1]
