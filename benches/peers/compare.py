"""Increments beside peers, and who loses rows when writers commit late.

    benches/peers/compare.py [--rows 200000] [--changes 10000] [--rounds 3]
                             [--late-seconds 60] [--only NAME,...]
                             [--program PATH] [--rivet PATH] [--no-build]

Every tool syncs the same table of the same server in the same run: a first
load, then an increment of updates spread over all keys, then one of the newest
rows, each compared with the source afterwards. Then, on a smaller table, all
tools sync back to back, side by side, while writers commit late; the writers
stop, each tool syncs once more, and the copies are compared again.

Peers: dlt (filesystem, Delta, merge) in its Arrow form, with and without a lag;
ingestr into SQLite, as it has no local lake, fetches its DuckDB driver on first
use, and fails on a uuid when it writes to PostgreSQL; Rivet, which only appends files: it is judged by the newest row of each key, which
somebody else has yet to find.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
HERE = ROOT / "benches/peers"
sys.path.insert(0, str(ROOT / "benches"))

from mirror import PAUSE, STAMP  # noqa: E402
from server import PostgreSQL  # noqa: E402
from usage import measure, python_with  # noqa: E402

DLT = ["dlt[filesystem,deltalake]==1.31.*", "sqlalchemy==2.1.9", "psycopg2-binary", "psycopg[binary]", "duckdb==2.0.0"]
STEPS = {
    "load": None,
    "spread": "update public.orders set qty = qty + 1 where id % ({rows} / {changes}) = {round}",
    "recent": "update public.orders set qty = qty + 1 where id > {rows} - {changes}",
}


@dataclasses.dataclass
class Tool:
    """The command of one sync; the first loads."""

    name: str
    folder: pathlib.Path
    kind: str
    command: list
    copy: str = ""
    env: dict = dataclasses.field(default_factory=dict)
    # Name and text of a file that the tool keeps its state beside.
    config: tuple = ()

    def sync(self, log):
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.config:
            (self.folder / self.config[0]).write_text(self.config[1])
        return measure(self.command, log, env=os.environ | self.env)


def forget(tools):
    for tool in tools:
        shutil.rmtree(tool.folder, ignore_errors=True)


def ours(program, url, folder, name, method, more=""):
    config = folder / f"{name.replace(' ', '-').replace(',', '')}.toml"
    lake = folder / config.stem
    cursor = 'tables."public.orders".cursor = "updated_at"\n' if method == "cursor" else ""
    config.write_text(
        f'source = "{url}"\nlake = "file:{lake}"\ninclude = ["public.orders"]\nmethod = "{method}"\nworkers = 2\nmemory = "256MiB"\n{more}{cursor}'
    )
    return Tool(name, lake, "delta", [program, "run", config, "--progress", "never"])


def rivet(program, url, folder):
    home = folder / "rivet"
    config = (
        f"source:\n  type: postgres\n  url: {url.replace('postgres://', 'postgresql://')}\n"
        "exports:\n  - name: orders\n    query: select * from public.orders\n"
        "    mode: incremental\n    cursor_column: updated_at\n    skip_empty: true\n"
        "    format: parquet\n    compression: zstd\n    compression_level: 1\n"
        f"    destination:\n      type: local\n      path: {home}/out\n"
    )
    command = [program, "run", "--config", home / "rivet.yaml"]
    return Tool("rivet, incremental", home, "parquet", command, "out", config=("rivet.yaml", config))


def ingestr(url, folder):
    """The newest on PyPI fetches its program from elsewhere on first use; an older one brings it."""
    for version in ("1.1.76", "0.15.9"):
        program = python_with(TARGET, f"ingestr-{version}", [f"ingestr=={version}"]).parent / "ingestr"
        asked = subprocess.run([program, "--version"], capture_output=True, text=True)
        if not asked.returncode:
            break
        print(f"left out: ingestr {version}: {asked.stderr.strip().splitlines()[-1]}", file=sys.stderr)
    else:
        return []
    home = folder / "ingestr"
    plain = url.replace("postgres://", "postgresql://")
    command = [
        program, "ingest", "--yes", "--progress", "log", "--source-uri", plain,
        "--source-table", "public.orders", "--dest-uri", f"sqlite:///{home}/orders.sqlite",
        "--dest-table", "orders", "--incremental-strategy", "merge",
        "--incremental-key", "updated_at", "--primary-key", "id",
    ]  # fmt: skip
    env = {"DISABLE_TELEMETRY": "true"}
    return [Tool(f"ingestr {version}, SQLite", home, "sqlite", command, "orders.sqlite", env)]


def field(options, url, folder, python):
    tools = [
        ours(options.program, url, folder, "ours, cursor", "cursor"),
        ours(options.program, url, folder, "ours, xid", "xid"),
        ours(options.program, url, folder, "ours, diff", "diff"),
    ]
    for name, lag in (("dlt, merge", []), ("dlt, merge, lag 5 s", ["5"])):
        home = folder / f"dlt{len(lag)}"
        tools.append(Tool(name, home, "delta", [python, HERE / "dlt_merge.py", url, home, *lag]))
    tools += ingestr(url, folder)
    if options.rivet.exists():
        tools.append(rivet(options.rivet, url, folder))
    else:
        print(f"left out: rivet: no {options.rivet}", file=sys.stderr)
    return [t for t in tools if not options.only or any(o in t.name for o in options.only.split(","))]


def compared(tool, url, python):
    command = [python, HERE / "rows.py", url, tool.kind, tool.folder / tool.copy]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode:
        said = [line for line in answer.stderr.splitlines() if "Error" in line]
        return {"error": (said or ["?"])[-1][:200]}
    return json.loads(answer.stdout)


def verdict(found):
    if "error" in found:
        return found["error"]
    wrong = [f"{found[what]} {what}" for what in ("lost", "stale", "doubled", "undeleted") if found[what]]
    return ", ".join(wrong) or f"equal ({found['rows']:,})"


def increments(tools, postgres, python, options, log):
    """Seconds and MiB of each tool and step; and the copies against the source."""
    results = {tool.name: {step: [] for step in STEPS} for tool in tools}
    verdicts = {}
    for number in range(options.rounds):
        forget(tools)
        for step, change in STEPS.items():
            if change:
                postgres.psql("-c", change.format(rows=options.rows, changes=options.changes, round=number))
                time.sleep(PAUSE)
            for tool in list(tools):
                try:
                    used = tool.sync(log)
                except RuntimeError as problem:
                    print(f"left out: {problem}", file=sys.stderr)
                    tools.remove(tool)
                    continue
                results[tool.name][step].append(used)
                print(f"round {number + 1}: {step}: {tool.name}: {used['wall']:.2f} s", file=sys.stderr)
        verdicts |= {tool.name: verdict(compared(tool, postgres.url, python)) for tool in tools}
    return {tool.name: results[tool.name] for tool in tools}, verdicts


def increments_table(results, verdicts, options):
    print(f"\n{options.rows:,} rows, then {options.changes:,} updates; medians of {options.rounds}\n")
    print("| tool | load | increment, spread | increment, recent rows | x slower than ours, spread | recent | peak RSS | rows afterwards |")
    print("|---|---|---|---|---|---|---|---|")
    wall = {name: {s: statistics.median(u["wall"] for u in runs) for s, runs in steps.items()} for name, steps in results.items()}
    best = next(iter(wall.values()), None)
    for name, steps in wall.items():
        rss = max(u["rss"] for step in ("spread", "recent") for u in results[name][step])
        ratios = [f"{steps[s] / best[s]:.1f}" for s in ("spread", "recent")]
        print(
            f"| {name} | {steps['load']:.2f} s | {steps['spread']:.2f} s | {steps['recent']:.2f} s "
            f"| {ratios[0]} | {ratios[1]} | {rss:.0f} MiB | {verdicts[name]} |"
        )


def late(tools, postgres, python, options, log):
    """Back-to-back syncs beside late writers; what each copy has wrong at the end."""
    forget(tools)
    for tool in tools:
        tool.sync(log)
    over, counts, failures = threading.Event(), {t.name: 0 for t in tools}, {t.name: 0 for t in tools}

    def loop(tool):
        while not over.is_set():
            try:
                tool.sync(log)
                counts[tool.name] += 1
            except RuntimeError as problem:
                failures[tool.name] += 1
                print(f"{tool.name}: {problem}", file=sys.stderr)

    loops = [threading.Thread(target=loop, args=(tool,)) for tool in tools]
    for thread in loops:
        thread.start()
    writers = [python, HERE / "writers.py", postgres.url, str(options.late_seconds), "8", "2", "7"]
    wrote = subprocess.run(writers, capture_output=True, text=True, check=True).stdout.strip()
    over.set()
    for thread in loops:
        thread.join()
    time.sleep(PAUSE)
    print(f"\n8 writers for {options.late_seconds} s, transactions open for 0-2 s, committed: {wrote}\n")
    print("| tool | syncs meanwhile | failed | lost | stale | doubled | undeleted | EXCEPT ALL both ways |")
    print("|---|---|---|---|---|---|---|---|")
    for tool in tools:
        tool.sync(log)
        late_row(tool.name, tool, counts, failures, postgres, python)
    for tool in tools:
        # What a method that does not see deletes leaves, the daily comparison finds.
        if tool.name in ("ours, cursor", "ours, xid"):
            config = tool.command[2]
            config.write_text('reconcile = "always"\n' + config.read_text())
            tool.sync(log)
            late_row(tool.name, tool, counts, failures, postgres, python, ", reconciled")


def late_row(name, tool, counts, failures, postgres, python, after=""):
    found = compared(tool, postgres.url, python)
    if "error" in found:
        print(f"| {name}{after} | {counts[name]} | {failures[name]} | {found['error']} |")
        return
    cells = [found[what] for what in ("lost", "stale", "doubled", "undeleted", "except_all")]
    print(f"| {name}{after} | {counts[name]} | {failures[name]} | {' | '.join(map(str, cells))} |")


def stamped_table(postgres, rows):
    postgres.bench_table(ROOT / "benches/bench-table.sql", rows)
    postgres.psql("-c", STAMP)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=200_000)
    options.add_argument("--changes", type=int, default=10_000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--late-seconds", type=int, default=60)
    options.add_argument("--late-rows", type=int, default=20_000)
    options.add_argument("--only", default="")
    options.add_argument("--program", type=pathlib.Path, default=TARGET / "release/table-backup")
    options.add_argument("--rivet", type=pathlib.Path, default=TARGET / "peers/bin/rivet")
    options.add_argument("--no-build", action="store_true")
    options = options.parse_args()
    if not options.no_build:
        subprocess.run(["cargo", "build", "--release", "--bin", "table-backup"], cwd=ROOT, check=True)
    python = python_with(TARGET, "dlt", DLT)
    log = TARGET / "bench-peers.log"
    log.unlink(missing_ok=True)
    with PostgreSQL(TARGET) as postgres, tempfile.TemporaryDirectory(dir=TARGET) as folder:
        tools = field(options, postgres.url, pathlib.Path(folder), python)
        if options.rounds:
            stamped_table(postgres, options.rows)
            increments_table(*increments(tools, postgres, python, options, log), options)
        if options.late_seconds:
            stamped_table(postgres, options.late_rows)
            late(tools, postgres, python, options, log)


if __name__ == "__main__":
    main()
