"""The OpenAPI 3.1 document.

Litestar describes routes; the schemas of bodies come from msgspec, which knows every bound of the structs
(Litestar loses the bounds of optional fields and writes whole numbers as floats).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from litestar import Litestar
from msgspec import Struct, inspect

from libs.contracts import control, inbox, lives, personas, presence, session, spending, thoughts
from libs.contracts.limits import Identifier, ItemId
from services.gateway.guard import COOKIE, SECURE_COOKIE, SESSION_PATH
from services.gateway.problems import MEDIA_TYPE, Problem

_REF = "#/components/schemas/{name}"
_STRUCTS = (
    control.CognitionStatus,
    control.StartCognitionRequest,
    control.StopCognitionRequest,
    inbox.Accepted,
    inbox.SendRequest,
    inbox.SwarmAccepted,
    inbox.SwarmSendRequest,
    lives.InboxReply,
    personas.CreatePersonaRequest,
    personas.DependenciesRequest,
    personas.ImportPersonasRequest,
    personas.ImportPersonasResponse,
    personas.LineageGraph,
    personas.PersonaDependencies,
    personas.PersonaPage,
    personas.ReapPersonaRequest,
    personas.ReapPersonaResponse,
    personas.SpawnPersonaRequest,
    presence.ProcessList,
    session.Session,
    session.SignIn,
    spending.SpendPage,
    thoughts.EventPage,
    thoughts.SnapshotPage,
    thoughts.SnapshotScope,
    Problem,
)

_SCHEMES = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "PERPETUA_API_TOKENS; GET takes the scope `read`, everything else `control`",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": f"What a browser gets for a token at `{SESSION_PATH}`; over TLS `{SECURE_COOKIE}`",
    },
}
"""None is asked for where the gateway has no tokens."""

_ONCE_NEEDS_ID = {
    "if": {"properties": {"once": {"const": True}}, "required": ["once"]},
    "then": {"properties": {"id": {"type": "string"}}, "required": ["id"]},
}


def document(app: Litestar) -> dict[str, Any]:
    """Return the OpenAPI document of the application."""
    return corrected(app.openapi_schema.to_schema())


def corrected(written: dict[str, Any]) -> dict[str, Any]:
    """Return Litestar's document with what it leaves out or gets wrong."""
    paths = {path: dict(item) for path, item in written["paths"].items()}
    for item in paths.values():
        for method, operation in item.items():
            item[method] = _operation(operation)
    components = {"schemas": schemas(), "securitySchemes": _SCHEMES}
    return written | {
        "paths": paths,
        "components": components,
        "security": [{}, {"token": []}, {"session": []}],
    }


def schemas() -> dict[str, Any]:
    """Return the JSON schema of every struct that crosses the API."""
    _, components = msgspec.json.schema_components(_STRUCTS, ref_template=_REF)
    for name in ("SendRequest", "SwarmSendRequest"):
        components[name] |= _ONCE_NEEDS_ID
    for struct in _reachable():
        for field in struct.fields:
            if any(isinstance(kind, inspect.DateTimeType) for kind in _kinds(field.type)):
                written = components[struct.cls.__name__]["properties"][field.encode_name]
                for schema in written.get("anyOf", [written]):
                    if schema.get("type") == "string":
                        schema["format"] = "date-time"
    return components


def _reachable() -> Iterator[inspect.StructType]:
    """Yield the structs and all that they hold."""
    seen: set[type[Struct]] = set()
    waiting = list(inspect.multi_type_info(_STRUCTS))
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, inspect.StructType) and kind.cls not in seen:
            seen.add(kind.cls)
            waiting += [inner for field in kind.fields for inner in _kinds(field.type)]
            yield kind
        elif isinstance(kind, inspect.ListType):
            waiting.append(kind.item_type)


def _kinds(kind: inspect.Type) -> tuple[inspect.Type, ...]:
    inner = kind.type if isinstance(kind, inspect.Metadata) else kind
    return inner.types if isinstance(inner, inspect.UnionType) else (inner,)


def _operation(operation: dict[str, Any]) -> dict[str, Any]:
    """Return an operation whose optional body is optional, and whose errors are problem documents only."""
    changed = dict(operation)
    if "requestBody" in changed:
        (media,) = changed["requestBody"]["content"].values()
        optional = {"type": "null"} in media["schema"].get("oneOf", [])
        changed["requestBody"] = changed["requestBody"] | {"required": not optional}
    changed["responses"] = {
        status: response
        for status, response in changed["responses"].items()
        if status < "400" or MEDIA_TYPE in response["content"]
    }
    changed["parameters"] = [_parameter(parameter) for parameter in changed.get("parameters", [])]
    return changed


def _parameter(parameter: dict[str, Any]) -> dict[str, Any]:
    """Return a parameter whose bounds are whole numbers; a path's is an id, though it comes encoded."""
    if parameter["in"] == "path":
        kind = ItemId if parameter["name"] == "item_id" else Identifier
        return parameter | {"schema": msgspec.json.schema(kind)}
    schema = {key: _whole(value) for key, value in parameter["schema"].items()}
    return parameter | {"schema": schema}


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value
