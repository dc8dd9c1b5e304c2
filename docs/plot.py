"""Draw the dashboards' panels from a real Prometheus on a real swarm: `just plots`. No Grafana is used."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot

from tests.support.prometheus import Prometheus
from tests.support.swarm import Swarm, swarm

DOCS = Path(__file__).parent
DASHBOARDS = DOCS.parent / "deploy/grafana/dashboards"
SECONDS = 120
PERSONAS = 6


def main() -> None:
    settings = {"LOOP_INTERVAL_MS": "1000", "THINKER_MAX_TOKENS": "16"}
    with swarm("--model", "tiny", settings=settings) as running:
        ports: dict[str, list[int]] = {}
        for row in (row for row in running.ps() if row["metrics_port"]):
            ports.setdefault(row["service"], []).append(row["metrics_port"])
        prometheus = Prometheus(ports)
        try:
            populate(running)
            for number in range(SECONDS // 2):
                running.post(f"/v1/swarm/personas/p{number % PERSONAS}/inbox", {"content": "Is it calm?"})
                time.sleep(2)
            for board in sorted(DASHBOARDS.glob("*.json")):
                draw(prometheus, json.loads(board.read_text()), DOCS / f"dashboard-{board.stem}.png")
        finally:
            prometheus.close()


def populate(running: Swarm) -> None:
    for number in range(PERSONAS):
        body = {"persona_id": f"p{number}", "name": f"P{number}", "role": "critic", "charter": "Find doubts."}
        running.post("/v1/swarm/personas", body)


def draw(prometheus: Prometheus, board: dict[str, Any], file: Path) -> None:
    panels, columns, now = board["panels"], 4, time.time()
    rows = math.ceil(len(panels) / columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(4.2 * columns, 2.5 * rows), squeeze=False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        axis.set_title(f"{panel['title']} ({panel['fieldConfig']['defaults']['unit']})", fontsize=9)
        for target in panel["targets"]:
            query = target["expr"].replace("$instance", ".*")
            for series in prometheus.range(query, now - SECONDS + 20, now, 2):
                points = [(at - now, float(value)) for at, value in series["values"] if value != "NaN"]
                legend = target["legendFormat"]
                for label, value in series["metric"].items():
                    legend = legend.replace("{{" + label + "}}", value)
                axis.plot(*zip(*points, strict=True) if points else ([], []), label=legend or "_")
        axis.set_ylim(bottom=0)
        axis.tick_params(labelsize=7)
        if axis.get_legend_handles_labels()[1]:
            axis.legend(fontsize=6, loc="best")
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    figure.suptitle(f"{board['title']}: {PERSONAS + 1} personas, the tiny model, {SECONDS} s", fontsize=11)
    figure.tight_layout(rect=(0, 0, 1, 0.98))
    figure.savefig(file, dpi=70)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
