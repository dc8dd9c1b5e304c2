"""Storms by command: `just chaos --seed 7 --faults 40`; `--help` lists what they can be."""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
import time
from collections import Counter
from pathlib import Path

import msgspec
import structlog
import uvloop

from libs.runtime.imports import preload
from tests.chaos.plan import Kind
from tests.chaos.storm import Options, Report, blow


def main() -> None:
    """Blow storms until one finds something, the minutes are over, or as many faults are done."""
    options = _arguments()
    preload()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    reports: list[Report] = []
    ends = time.monotonic() + options.minutes * 60
    seed = options.seed
    while True:
        storm = Options(
            seed,
            options.faults,
            options.brokers,
            options.personas,
            options.interval_ms,
            disk=not options.no_disk,
            lively=options.lively,
            sync_always=options.sync_always,
            leases=not options.no_leases,
        )
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            report = runner.run(blow(storm, lambda text: _say(options.json, text)))
        reports.append(report)
        _say(options.json, _row(report))
        for finding in report.findings[:40]:
            _say(options.json, f"  FOUND {finding}")
        if report.findings or time.monotonic() > ends:
            break
        seed += 1
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(reports)).decode())
    elif options.into is not None:
        with options.into.open("ab") as kept:
            kept.writelines(msgspec.json.encode(report) + b"\n" for report in reports)
        lines = options.into.read_bytes().splitlines()
        print(table([msgspec.json.decode(line, type=Report) for line in lines]))
    sys.exit(1 if any(report.findings for report in reports) else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(1, 10**6))
    parser.add_argument("--faults", type=int, default=40, help="of each storm")
    parser.add_argument("--minutes", type=float, default=0, help="storm after storm, seeds counted up")
    parser.add_argument("--brokers", type=int, default=1, choices=(1, 3))
    parser.add_argument("--personas", type=int, default=200)
    parser.add_argument("--interval-ms", type=int, default=100)
    parser.add_argument("--no-disk", action="store_true", help="mount no small disk and fill none")
    parser.add_argument("--lively", action="store_true", help="adaptive cadence, messages and credits")
    parser.add_argument("--sync-always", action="store_true", help="the broker flushes each write")
    parser.add_argument("--no-leases", action="store_true", help="nobody knows of others that do the same")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--into", type=Path, help="keep reports here, a line each; shows all that are there")
    return parser.parse_args()


def _say(quiet: bool, text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr if quiet else sys.stdout, flush=True)


def _row(report: Report) -> str:
    return (
        f"seed {report.options.seed}, {report.options.brokers} broker(s): {report.faults} faults "
        f"{report.done}, left out {report.left_out}; {report.personas} personas, "
        f"{report.thoughts} thoughts, {report.events} events in {report.seconds:.0f} s; "
        f"{report.facts}; {len(report.findings)} findings"
    )


def table(reports: list[Report]) -> str:
    """Return how often each kind of fault was done and left out over storms, as Markdown."""
    done: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    for report in reports:
        done.update(report.done)
        left_out.update(report.left_out)
    rows = [f"| {kind.value} | {done[kind.value]} | {left_out[kind.value]} |" for kind in Kind]
    total = f"| all, in {len(reports)} storms | {done.total()} | {left_out.total()} |"
    return "\n".join(["| fault | done | left out |", "|---|---|---|", *rows, total])


if __name__ == "__main__":
    main()
