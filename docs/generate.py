"""Write the pages that are made from the code: `just docs`. With `--check`, say which are out of date."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import msgspec
import yaml

from libs.contracts import subjects
from libs.contracts.captures import Capture
from libs.contracts.inbox import Accepted, SendRequest, SwarmAccepted, SwarmSendRequest
from libs.contracts.thoughts import EventType, MemorySnapshot, OwnEventType, ThoughtEvent
from libs.settings.cognition import cognition_reader, read_cognition
from libs.settings.process import process_reader, read_process
from libs.settings.reader import Described
from libs.settings.tracing import read_tracing, tracing_reader
from tests.conformance.facts import FACTS
from tests.monitoring.table import NAMES, ONCE_COUNTED, SERVICES

DOCS = Path(__file__).parent

SETTINGS = """# Settings

Environment variables, read once when a process starts. An empty value means the default. A value that is
not allowed stops the process with one line that names the variable, the value and what is allowed, and with
exit status 78.

## Of the reference

{cognition}
Accepted under the reference's names too: `THINKER_CANDLE_MODEL_PATH`, `…_TOKENIZER_PATH`, `…_DEVICE`,
`…_CUDA_ORDINAL`, `…_REPEAT_PENALTY`, `…_REPEAT_LAST_N`, `…_SEED`.

## Of the processes

{process}
## Of the command line

| variable | what |
|---|---|
| `PERPETUA_GATEWAY_URL` | the gateway to ask, unless `--gateway` names one |
| `PERPETUA_API_TOKEN` | the token to show it, unless `--token-file` names one |
| `HF_TOKEN` | the token for gated models, unless `model pull --token` names one |

Where none is named it is the gateway of the `up` of the data folder, else `http://127.0.0.1:4096`. What asks
the broker (`ps`, `stats`, `replay`, `deadletters`, `provision`, `backup`, `restore`) asks that of
`--nats-url`, else that of the `up` of the data folder, else that of `PERPETUA_NATS_URL`, as `admin`.

## Of OpenTelemetry

Traces, by OpenTelemetry's own names. Its SDK and exporter read the others of its settings themselves, such as
`OTEL_EXPORTER_OTLP_HEADERS`, `…_TIMEOUT`, `…_CERTIFICATE`, `…_COMPRESSION` and `OTEL_RESOURCE_ATTRIBUTES`;
what they do not take stops the process, too. What cannot be had is refused where there are traces:
`OTEL_EXPORTER_OTLP_PROTOCOL` and `…_TRACES_PROTOCOL` but `http/protobuf`, `OTEL_TRACES_EXPORTER` but `otlp`,
`OTEL_SDK_DISABLED` but `false`, and `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` always. `OTEL_SERVICE_NAME`,
`OTEL_PROPAGATORS` and `OTEL_BSP_…` change nothing, and a line of the log says so.

{tracing}"""

FACTS_PAGE = """# Where each fact of the specification lives

`just conformance` runs the tests that cite them and says how many hold; `grep -rn 'fact("3.5")' tests` finds
those of one.

| fact | what | where |
|---|---|---|
{rows}"""


METRICS_PAGE = """# Metrics

By the names that Prometheus stores. A test scrapes each of them from a running swarm; what is marked `(×)` is
there once there was something to count.

{rows}"""


def main() -> int:
    stale = [name for name, text in pages().items() if _read(DOCS / name) != text]
    if "--check" in sys.argv:
        for name in stale:
            print(f"docs/{name} is out of date; run `just docs`")
        return len(stale)
    for name, text in pages().items():
        (DOCS / name).write_text(text)
    print(f"written: {', '.join(stale) or 'nothing had changed'}")
    return 0


def pages() -> dict[str, str]:
    """Return every generated page by its name."""
    return {
        "settings.md": settings(),
        "facts.md": facts(),
        "asyncapi.json": json.dumps(asyncapi(), indent=1) + "\n",
        "openapi.json": json.dumps(openapi(), indent=1) + "\n",
        "metrics.md": metrics(),
        "../deploy/kubernetes/overlays/production/rules.yaml": prometheus_rule(),
    }


def settings() -> str:
    cognition, process = cognition_reader({}), process_reader({})
    read_cognition(cognition)
    read_process(process, "x")
    tracing = tracing_reader({})
    read_tracing(tracing)
    return SETTINGS.format(
        cognition=_table(cognition.described),
        process=_table(process.described),
        tracing=_table(tracing.described),
    )


def facts() -> str:
    rows = "".join(
        f"| {number} | {fact.title} | {', '.join(f'`{name}`' for name in fact.files)} |\n"
        for number, fact in FACTS.items()
    )
    return FACTS_PAGE.format(rows=rows)


def metrics() -> str:
    """The table of services and metrics."""
    names = sorted(NAMES)
    columns = list(SERVICES)
    rows = "".join(
        f"| `{name}` | {' | '.join(_mark(name, service) for service in columns)} |\n" for name in names
    )
    head = f"| metric | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}\n"
    return METRICS_PAGE.format(rows=head + rows)


def _mark(name: str, service: str) -> str:
    if name in SERVICES[service]:
        return "×"
    return "(×)" if name in ONCE_COUNTED.get(service, ()) else ""


def prometheus_rule() -> str:
    """The rules of deploy/prometheus as the Prometheus Operator takes them."""
    folder = DOCS.parent / "deploy/prometheus"
    groups = [
        group | {"name": f"{group['name']}-{kind}"}
        for kind in ("recording", "alerts")
        for group in yaml.safe_load((folder / f"{kind}.yml").read_text())["groups"]
    ]
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "perpetua"},
        "spec": {"groups": groups},
    }
    return "# From deploy/prometheus by docs/generate.py.\n" + yaml.safe_dump(
        rule, sort_keys=False, width=110
    )


def asyncapi() -> dict[str, Any]:
    """AsyncAPI 3 of the public subjects."""
    structs = [ThoughtEvent, MemorySnapshot, Capture, SendRequest, SwarmSendRequest, Accepted, SwarmAccepted]
    schemas, components = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    parameters = {
        "swarm": {"description": "The swarm's id as a token, `_` for none"},
        "persona": {"description": "The persona's id as a token, `_` for none"},
    }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Perpetua", "version": "0.1.0"},
        "channels": {
            "events": {
                "address": subjects.EVENTS.replace(">", "{swarm}.{persona}.{event_type}"),
                "parameters": parameters | {"event_type": {"enum": [*EventType, *OwnEventType]}},
                "messages": {"event": {"contentType": "application/json", "payload": schemas[0]}},
            },
            "snapshots": {
                "address": subjects.SNAPSHOTS.replace(">", "{swarm}.{persona}"),
                "parameters": parameters,
                "messages": {"snapshot": {"contentType": "application/json", "payload": schemas[1]}},
            },
            "captures": {
                "address": subjects.CAPTURES.replace(">", "{persona}.{thought_count}"),
                "parameters": {
                    "persona": parameters["persona"],
                    "thought_count": {"description": "Which of the persona's thoughts"},
                },
                "messages": {"capture": {"contentType": "application/json", "payload": schemas[2]}},
            },
            **_asked("inbox", subjects.SEND.replace("*", "{persona}"), "persona", schemas[3], schemas[5]),
            **_asked(
                "inbox_swarm", subjects.SEND_SWARM.replace("*", "{swarm}"), "swarm", schemas[4], schemas[6]
            ),
        },
        "operations": {
            name: {"action": "send", "channel": {"$ref": f"#/channels/{name}"}}
            for name in ("events", "snapshots", "captures")
        }
        | {
            name: {
                "action": "receive",
                "channel": {"$ref": f"#/channels/{name}"},
                "reply": {"channel": {"$ref": f"#/channels/{name}_answers"}},
            }
            for name in ("inbox", "inbox_swarm")
        },
        "components": {"schemas": components},
    }


def _asked(name: str, address: str, parameter: str, request: Any, answer: Any) -> dict[str, Any]:
    """The channels of a request and of its answer, which goes to the inbox of whoever asked."""
    described = {parameter: {"description": f"The {parameter}'s id as a token"}}
    return {
        name: {
            "address": address,
            "parameters": described,
            "messages": {"request": {"contentType": "application/json", "payload": request}},
        },
        f"{name}_answers": {
            "address": None,
            "messages": {"answer": {"contentType": "application/json", "payload": answer}},
        },
    }


def openapi() -> dict[str, Any]:
    """OpenAPI 3.1 of the gateway."""
    from services.gateway.app import published

    return published("0.1.0")


def _table(described: list[Described]) -> str:
    rows = "".join(f"| `{d.name}` | {_shown(d.default)} | {d.allowed} | {d.doc} |\n" for d in described)
    return "| variable | default | allowed | what |\n|---|---|---|---|\n" + rows


def _shown(default: str) -> str:
    return default if default == "none" else f"`{default}`"


def _read(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


if __name__ == "__main__":
    sys.exit(main())
