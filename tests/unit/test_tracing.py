"""Which spans are made, what is a parent, and what becomes of spans that nobody collects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import msgspec
import pytest
from msgspec import structs
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from libs.contracts.journal import JournalEvent
from libs.contracts.personas import PersonaIdentity
from libs.contracts.work import TakenItem
from libs.settings.reader import SettingError
from libs.settings.tracing import DEFAULT_RATIO, TracingSettings, read_tracing, tracing_reader
from libs.tracing.export import WAITING_MOST, BoundedExport
from libs.tracing.otel import OtelTracer, open_tracer
from libs.tracing.spans import current, current_traceparent, inside, served, trace_headers
from services.scheduler.dispatches import Dispatch, Dispatches
from services.scheduler.inbox import Held, Inbox
from services.scheduler.mail import Standing
from services.scheduler.notes import Note, in_record
from services.scheduler.tracing import TRACED_MOST, take_calls, traced
from tests.unit.make import chunk, due, inbox_item

TRACE, SPAN = "a" * 32, "b" * 16
COLLECTOR = "http://127.0.0.1:4318"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"


class Collecting(SpanExporter):
    """Keeps what it is given, or fails."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []
        self.fails = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self.fails:
            return SpanExportResult.FAILURE
        self.spans += spans
        return SpanExportResult.SUCCESS


class Made:
    """A tracer over an exporter of the test's."""

    def __init__(self, **env: str) -> None:
        self.exporter = Collecting()
        self.dropped = 0
        self.provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
        self.provider.add_span_processor(BoundedExport(self.exporter, "x", self._drop))
        self.tracer = OtelTracer(_settings(**env), self.provider)

    def _drop(self, count: int) -> None:
        self.dropped += count

    def all(self) -> list[ReadableSpan]:
        self.provider.force_flush()
        return self.exporter.spans


@pytest.fixture
def made() -> Iterator[Made]:
    one = Made(TRACES_SAMPLER_ARG="0")
    yield one
    one.tracer.close()


def _settings(**env: str) -> TracingSettings:
    return read_tracing(tracing_reader({f"OTEL_{name}": value for name, value in env.items()}))


def test_nothing_is_collected_unless_a_collector_is_named() -> None:
    assert _settings() == TracingSettings(endpoint=None, ratio=DEFAULT_RATIO, follows_parent=True)
    assert _settings(EXPORTER_OTLP_ENDPOINT=" ").endpoint is None
    for right in ("http://collector", "https://u:p@collector:4318/otlp/", "http://[::1]:65535", "HTTP://c"):
        assert _settings(EXPORTER_OTLP_ENDPOINT=right).endpoint == right
    bad_ports = "http://collector:0", "http://collector:65536", "http://collector:x"
    for wrong in ("collector:4318", "ftp://collector", "http://", "http://[::1", "x", *bad_ports):
        with pytest.raises(SettingError, match="OTEL_EXPORTER_OTLP_ENDPOINT"):
            _settings(EXPORTER_OTLP_ENDPOINT=wrong)


def test_a_sampler_that_there_is_not_and_a_share_that_it_does_not_take_are_refused() -> None:
    for sampler in ("xray", "jaeger_remote", "traceidratio", "parentbased_jaeger_remote", "0.5"):
        with pytest.raises(SettingError, match=f"OTEL_TRACES_SAMPLER='{sampler}'.* expected one of parent"):
            _settings(TRACES_SAMPLER=sampler)
    for share in ("-0.1", "1.01", "nan", "inf", "5%", "half", "1/2"):
        with pytest.raises(SettingError, match=r"OTEL_TRACES_SAMPLER_ARG=.* expected a number from 0 to 1"):
            _settings(TRACES_SAMPLER_ARG=share)
    for sampler in ("parentbased_always_on", "parentbased_always_off", "always_on", "always_off"):
        with pytest.raises(SettingError, match=f"OTEL_TRACES_SAMPLER_ARG='0.5'.* {sampler} takes no share"):
            _settings(TRACES_SAMPLER=sampler, TRACES_SAMPLER_ARG="0.5")
        assert _settings(TRACES_SAMPLER=sampler.upper(), TRACES_SAMPLER_ARG=" ") == _settings(
            TRACES_SAMPLER=sampler
        )
    assert [_settings(TRACES_SAMPLER_ARG=share).ratio for share in ("0", "1", "1e-3")] == [0, 1, 0.001]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
        ("TRACES_EXPORTER", "console"),
        ("TRACES_EXPORTER", "none"),
        ("SDK_DISABLED", "true"),
    ],
)
def test_what_cannot_be_had_is_refused_where_there_are_traces(name: str, value: str) -> None:
    """Elsewhere a machine's settings for other programs are no reason not to start."""
    with pytest.raises(SettingError, match=f"OTEL_{name}='{value}'.*OTEL_EXPORTER_OTLP_ENDPOINT is set"):
        _settings(EXPORTER_OTLP_ENDPOINT=COLLECTOR, **{name: value})
    assert _settings(**{name: value}) == _settings()


def test_what_comes_to_the_same_is_taken_and_an_endpoint_for_traces_alone_is_not_passed_over() -> None:
    same = {"EXPORTER_OTLP_PROTOCOL": "http/protobuf", "TRACES_EXPORTER": "otlp", "SDK_DISABLED": "False"}
    assert _settings(EXPORTER_OTLP_ENDPOINT=COLLECTOR, **same) == _settings(EXPORTER_OTLP_ENDPOINT=COLLECTOR)
    with pytest.raises(
        SettingError, match=r"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=.* OTEL_EXPORTER_OTLP_ENDPOINT"
    ):
        _settings(EXPORTER_OTLP_TRACES_ENDPOINT=f"{COLLECTOR}/v1/traces")


def test_what_changes_nothing_is_said() -> None:
    """Also a name for a service, which a cluster may give to every program."""
    (said,) = _settings(EXPORTER_OTLP_ENDPOINT=COLLECTOR, SERVICE_NAME="x", BSP_MAX_QUEUE_SIZE="").unheeded
    assert said == "OTEL_SERVICE_NAME changes nothing: a process is named after its service"
    assert _settings(SERVICE_NAME="x").unheeded == (), "there are no traces"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EXPORTER_OTLP_TIMEOUT", "soon"),
        ("EXPORTER_OTLP_COMPRESSION", "lz4"),
        ("EXPORTER_OTLP_HEADERS", "garbage"),
        ("RESOURCE_ATTRIBUTES", "garbage"),
        ("SPAN_ATTRIBUTE_COUNT_LIMIT", "many"),
    ],
)
def test_what_the_sdk_reads_and_does_not_take_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """It would only log most of it, and go on without."""
    monkeypatch.setenv(f"OTEL_{name}", value)
    with pytest.raises(ValueError, match=value):
        open_tracer(_settings(EXPORTER_OTLP_ENDPOINT=COLLECTOR), "x", "x-1", "0", lambda lost: None)


@pytest.mark.parametrize(
    ("sampler", "root", "sampled", "unsampled"),
    [
        ("parentbased_traceidratio", False, True, False),
        ("parentbased_always_on", True, True, False),
        ("parentbased_always_off", False, True, False),
        ("always_on", True, True, True),
        ("always_off", False, False, False),
    ],
)
def test_each_sampler_does_what_the_standard_says(
    sampler: str, root: bool, sampled: bool, unsampled: bool
) -> None:
    share = {"TRACES_SAMPLER_ARG": "0"} if sampler.endswith("ratio") else {}
    tracer = Made(TRACES_SAMPLER=sampler, **share).tracer
    assert (tracer.begin("x") is not None) is root
    assert (tracer.begin("x", parent=SAMPLED) is not None) is sampled
    assert (tracer.begin("x", parent=UNSAMPLED) is not None) is unsampled
    assert (tracer.begin("x", parent="garbage") is not None) is root, "no parent"
    tracer.close()


def test_a_share_of_what_has_no_parent_is_sampled() -> None:
    tracer = Made(TRACES_SAMPLER_ARG="0.25").tracer
    begun = sum(tracer.begin("x") is not None for _ in range(4000))
    assert 800 < begun < 1200
    tracer.close()


def test_a_span_goes_on_in_its_parents_trace_and_ends_once(made: Made) -> None:
    span = made.tracer.begin("x", parent=SAMPLED, links=[f"00-{'c' * 32}-{SPAN}-01"])
    assert span is not None
    child = span.child("y", begun=5)
    child.end(9)
    child.end(10)
    span.fail("why")
    span.end()
    x = next(one for one in made.all() if one.name == "x")
    y = next(one for one in made.all() if one.name == "y")
    assert x.parent is not None and y.parent is not None and x.context is not None
    assert (f"{x.context.trace_id:032x}", f"{x.parent.span_id:016x}") == (TRACE, SPAN)
    assert f"00-{TRACE}-{y.parent.span_id:016x}-01" == span.traceparent
    assert (y.start_time, y.end_time) == (5, 9)
    assert [f"{link.context.trace_id:032x}" for link in x.links] == ["c" * 32]
    assert not x.status.is_ok


def test_what_nobody_collects_is_counted_and_bounded(made: Made) -> None:
    made.exporter.fails = True
    for _ in range(3):
        span = made.tracer.begin("x", parent=SAMPLED)
        assert span is not None
        span.end()
    made.provider.force_flush()
    assert made.dropped == 3
    processor = BoundedExport(made.exporter, "x", made._drop)
    assert sum(processor._counted.admit() for _ in range(WAITING_MOST + 10)) == WAITING_MOST
    assert made.dropped == 13
    processor.shutdown()  # type: ignore[no-untyped-call]


async def test_a_task_works_for_a_span_only_while_that_is_served(made: Made) -> None:
    seen: list[str | None] = []

    async def work() -> None:
        seen.append(current_traceparent())

    await served(made.tracer, "x", SAMPLED, work())
    await served(made.tracer, "x", UNSAMPLED, work())
    assert seen[0] is not None and seen[0].startswith(f"00-{TRACE}-")
    assert seen[1] is None
    assert current() is None
    assert trace_headers() is None
    with inside(made.tracer.begin("y", parent=SAMPLED)):
        assert (trace_headers() or {}).keys() == {"traceparent"}


async def test_work_that_fails_ends_its_span_as_failed(made: Made) -> None:
    async def work() -> None:
        raise OSError

    with pytest.raises(OSError):
        await served(made.tracer, "x", SAMPLED, work())
    (span,) = made.all()
    assert span.status.description == "OSError"


def test_a_thought_goes_on_with_the_best_call_and_links_the_others(made: Made) -> None:
    about = PersonaIdentity(id="p", name="P", role="r", charter="c", depth=0, created_at=datetime.now(UTC))
    other = f"00-{'c' * 32}-{SPAN}-01"
    thought = traced(made.tracer, about, 3, [SAMPLED, other])
    assert thought is not None
    thought.granted()
    thought.granted()
    thought.end()
    spans = {one.name: one for one in made.all()}
    assert spans.keys() == {"thought", "queue wait"}
    assert [f"{link.context.trace_id:032x}" for link in spans["thought"].links] == ["c" * 32]
    assert thought.traceparent.startswith(f"00-{TRACE}-")
    assert traced(made.tracer, about, 3, []) is None, "of ticks the ratio is sampled, which is 0"


def test_a_thought_that_is_its_owners_no_more_is_seen_to_end_in_its_trace(made: Made) -> None:
    """Withdrawn, given up or handed over; one that is only dispatched anew goes on."""
    about = PersonaIdentity(id="p", name="P", role="r", charter="c", depth=0, created_at=datetime.now(UTC))

    def begun(name: str) -> tuple[Dispatches, Dispatch]:
        work, table = chunk(name, "p"), Dispatches()
        one = structs.replace(due("p"), trace=traced(made.tracer, about, ord(name), [SAMPLED]))
        return table, table.begin(work, [one], 0.0, 5)

    anew, withdrawn, given_up, handed_over = (begun(name) for name in "abcd")
    anew[0].drop(anew[1])
    withdrawn[0].drop_ungranted(1)
    given_up[0].abandon(given_up[1])
    handed_over[0].hand_over()
    thoughts = [span.attributes or {} for span in made.all() if span.name == "thought"]
    assert [one["perpetua.thought.count"] for one in thoughts] == [ord(name) for name in "bcd"]
    assert ["perpetua.thought.handed_over" in one for one in thoughts] == [False, False, True]
    assert len([span for span in made.all() if span.name == "queue wait"]) == 3
    assert not given_up[0].in_flight("p")
    assert handed_over[0].in_flight("p"), "whom it is up to now is not known here"


def test_an_item_that_no_thought_can_handle_is_not_traced_for_ever() -> None:
    inbox = Inbox()
    inbox.add(Held(7, Standing(50), 0.0, inbox_item(traceparent=SAMPLED)), 0.0)
    inbox.add(Held(8, Standing(50), 0.0, inbox_item(id="other")), 0.0)
    taken = [TakenItem(sequence, "i", "chat", "", "x", datetime.now(UTC)) for sequence in (8, 7, 9)]
    assert [take_calls(inbox, taken) for _ in range(TRACED_MOST + 1)] == [[SAMPLED]] * TRACED_MOST + [[]]


def test_contexts_stay_with_their_events_when_notes_share_a_record() -> None:
    event = JournalEvent("s", "p", "inbox_received", msgspec.Raw(b"{}"))
    one, two = Note(events=[event, event], traces={1: SAMPLED}), Note(events=[event], traces={0: UNSAMPLED})
    assert in_record([one, Note(), two]).event_traces == {1: SAMPLED, 2: UNSAMPLED}
