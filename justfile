# Everything a person does here. `just` lists it.

python := ".venv/bin/python"

# The processes of a test run share the test files' bytecode: else each takes ten seconds to make its own
compiled := "PYTHONDONTWRITEBYTECODE="

[private]
default:
    @{{ just_executable() }} --list

# Install the project into .venv
[group('run')]
install: (_install "runtime")

# Bring everything up on this machine: a broker, five services, thoughts on the screen
[group('run')]
[no-exit-message]
up *ARGS: install
    @.venv/bin/perpetua up {{ ARGS }}

# Lint, types, import rules and every test: two side by side, three that mostly wait, then those that want the machine for themselves
[group('check')]
[parallel]
test *ARGS: lint _debian
    {{ compiled }} {{ python }} -m pytest -n 2 --dist loadgroup -m "not alone and not waiting" {{ ARGS }}
    {{ compiled }} {{ python }} -m pytest -n 3 --dist loadgroup -m waiting {{ ARGS }}
    {{ compiled }} {{ python }} -m pytest -m alone {{ ARGS }}

# Images and the compose file, really built and run; installs podman from Debian, takes root and minutes
[group('check')]
containers *ARGS: (_install "dev") _system _engine
    {{ python }} -m pytest tests/containers {{ ARGS }}

# The quick part: no swarm is brought up
[group('check')]
unit *ARGS: (_install "dev")
    {{ python }} -m pytest tests/unit tests/bus tests/house {{ ARGS }}

# Storms: kill, stop, restart, cut, delay, fill the disk, jump clocks; --seed, --faults, --minutes, --brokers 3
[group('check')]
chaos *ARGS: (_install "dev") _clocks
    {{ python }} -m tests.chaos {{ ARGS }}

# How many numbered facts of the specification hold
[group('check')]
conformance: (_install "dev")
    {{ python }} -m pytest -q tests -m fact --facts

# Style, types and import rules
[group('check')]
lint: (_install "dev")
    {{ python }} -m ruff check
    {{ python }} -m ruff format --check
    {{ python }} -m mypy
    .venv/bin/lint-imports --no-logo

# Put the code into the project's format
[group('check')]
format: (_install "dev")
    {{ python }} -m ruff check --fix
    {{ python }} -m ruff format

# What the substrate carries, every figure with its bar: --only PARTS, --runs 5, --into FILE, --json
[group('measure')]
bench *ARGS: (_install "dev")
    {{ python }} -m bench {{ ARGS }}

# Start time and memory
[group('measure')]
bench-startup *ARGS: (_install "dev")
    {{ python }} -m bench.startup {{ ARGS }}

# How long personas pause when a process is killed
[group('measure')]
bench-failover *ARGS: (_install "dev")
    {{ python }} -m bench.failover {{ ARGS }}

# Thoughts a second of the in-process model: one at a time, in batches, by an endpoint; --sweep for batch sizes
[group('measure')]
bench-thinker *ARGS: (_install "dev")
    {{ python }} -m bench.thinker {{ ARGS }}

# Thoughts a second without a model, every event durable; --sync-always flushes each write
[group('measure')]
bench-throughput *ARGS: (_install "dev")
    {{ python }} -m bench.throughput {{ ARGS }}

# From a tick's being due to its event at a NATS subscriber
[group('measure')]
bench-latency *ARGS: (_install "dev")
    {{ python }} -m bench.latency {{ ARGS }}

# Thoughts a second with an endpoint of 50 ms, through the whole system, against one after another
[group('measure')]
bench-endpoint *ARGS: (_install "dev")
    {{ python }} -m bench.endpoint {{ ARGS }}

# Memory and failures of a long run with the tiny model
[group('measure')]
bench-soak *ARGS: (_install "dev")
    {{ python }} -m bench.soak {{ ARGS }}

# Personas with a life: what rest costs, how soon an urgent message is thought of, and at twice the capacity
[group('measure')]
bench-life *ARGS: (_install "dev")
    {{ python }} -m bench.life {{ ARGS }}

# 100 000 personas at rest: start-up, what looks cost, a message to one of them, restart
[group('measure')]
bench-resting *ARGS: (_install "dev")
    {{ python }} -m bench.resting {{ ARGS }}

# Turns across two schedulers whose personas are shared out unevenly, and throughput; --personas, --share, --slots
[group('measure')]
bench-fair *ARGS: (_install "dev")
    {{ python }} -m bench.fair {{ ARGS }}

# A day of a thousand personas in seconds, by the scheduler's own parts; --personas, --hours, --seed, --json, --plot FILE
[group('measure')]
simulate *ARGS: (_install "dev")
    {{ python }} -m bench.simulation {{ ARGS }}

# A large swarm: creation, import, tick lag, memory, status, lineage, restart
[group('measure')]
bench-scale *ARGS: (_install "dev")
    {{ python }} -m bench.scale {{ ARGS }}

# 500 clients of the event stream, and one that reads nothing
[group('measure')]
bench-sse *ARGS: (_install "dev")
    {{ python }} -m bench.sse {{ ARGS }}

# Cost from 100 to 100 000 personas, with a plot
[group('measure')]
bench-growth *ARGS: (_install "dev")
    {{ python }} -m bench.growth {{ ARGS }}

# Write docs/settings.md, docs/openapi.json and the other generated pages anew
[group('maintain')]
docs: (_install "dev")
    {{ python }} docs/generate.py

# Draw the dashboards' panels in docs anew, from a real Prometheus on a real swarm
[group('maintain')]
plots: (_install "dev") _system
    {{ python }} docs/plot.py

# Compile the hashed requirements anew after a change of pyproject.toml
[group('maintain')]
lock: (_install "dev")
    .venv/bin/uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header pyproject.toml -o requirements/runtime.txt
    .venv/bin/uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header pyproject.toml --group dev -o requirements/dev.txt
    .venv/bin/uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header requirements/build.in -o requirements/build.txt
    for role in core gateway tools thinker thinker-cuda; do .venv/bin/uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header requirements/$role.in -c requirements/runtime.txt -o requirements/$role.txt; done

_debian: _system _clocks

# What tests need of Debian, where it is missing and this user may install it: curl, a browser, Prometheus
_system:
    @command -v curl >/dev/null || (test "$(id -u)" = 0 && apt-get -qq update && apt-get -qq install -y curl >/dev/null) || echo "no curl: the test of the README fails"
    @command -v chromium >/dev/null || (test "$(id -u)" = 0 && apt-get -qq update && apt-get -qq install -y chromium >/dev/null) || echo "no chromium: the browser test is skipped"
    @command -v promtool >/dev/null || (test "$(id -u)" = 0 && apt-get -qq update && apt-get -qq install -y prometheus >/dev/null) || echo "no prometheus: the tests of monitoring are skipped"

# What container tests need of Debian; takes root
_engine:
    @{ command -v podman && command -v mmdebstrap && command -v iptables; } >/dev/null || (apt-get -qq update && apt-get -qq install -y podman buildah runc mmdebstrap iptables aardvark-dns netavark >/dev/null)

# libfaketime for storms, where it is missing and this user may install it
_clocks:
    @ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 || (test "$(id -u)" = 0 && apt-get -qq update && apt-get -qq install -y libfaketime >/dev/null) || echo "no libfaketime: storms leave clocks alone"

# Install what a list of requirements names, unless exactly that is installed
_install WHAT:
    @requirements/install {{ WHAT }}
