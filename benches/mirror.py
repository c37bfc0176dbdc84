"""The bench of mirror mode: what a run costs when little has changed.

    benches/mirror.py [--rows 5000000] [--rounds 3] [--only cursor,xid,diff]
                      [--memory 512MiB] [--program PATH] [--no-build]

Starts a PostgreSQL of its own and makes the bench table, whose `updated_at` the
server stamps. In each round and for each method a new lake is loaded, then
synced with nothing changed (on an idle server, then on one where other tables
are written), with the most recent 1% of the rows changed, with 1% spread over
all keys, with one row more, and with nothing changed again. All methods see the same changes in the same
round, so that noise hits all alike. Seconds and ratios are medians of rounds.

Bytes read are what the process took by `read` (`rchar`; sockets are not in it),
less what it takes for `--version`; bytes written are the sizes of the files
that are new in the lake, the log and the run reports included. After each round
sums over the lake's rows, read by DuckDB, are held against the source's.
"""

import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
sys.path.insert(0, str(ROOT / "benches"))

from server import PostgreSQL  # noqa: E402
from usage import measure, python_with  # noqa: E402

STAMP = """
alter table public.orders alter updated_at set default now();
create or replace function public.stamp() returns trigger language plpgsql as
  'begin new.updated_at := now(); return new; end';
create trigger stamp before update on public.orders for each row execute function public.stamp();
"""
SUMS = (
    "select count(*), sum(id), sum(qty), sum(id * qty % 1000003), "
    "sum({micros} % 1000003), sum(length(status)), sum(length(note)) from {rows}"
)
STEPS = {
    "load": None,
    "nothing, server idle": None,
    "nothing, other tables busy": "select pg_current_xact_id()",
    "1% clustered": "update public.orders set qty = qty + 1, status = 'shipped' where id > {rows} - {rows} / 100",
    "1% spread": "update public.orders set qty = qty + 1, status = 'paid' where id % 100 = {round}",
    # All rows of the step before have one stamp, the greatest: they are read again.
    # Of this row's stamp there is no other, so the next round starts without ties.
    "one row, after the 1% spread": "update public.orders set qty = qty + 1 where id = {rows}",
    "nothing, after the changes": "select pg_current_xact_id()",
}
DRAIN = "drain of all columns"
# The bound of a cursor stays a second below the clock (`cursor_margin_seconds`).
# Without the pause every sync would, rightly, read the changes once more.
PAUSE = 2.0


class Lake:
    """One lake, kept by one method."""

    def __init__(self, program, folder, url, method, memory):
        self.method, self.path = method, folder / method
        self.config, self.report = folder / f"{method}.toml", folder / f"{method}.json"
        self.command = [program, "run", self.config, "--report", self.report, "--progress", "never"]
        cursor = 'tables."public.orders".cursor = "updated_at"\n' if method == "cursor" else ""
        self.config.write_text(
            f'source = "{url}"\nlake = "file:{self.path}"\nmethod = "{method}"\nreconcile = "never"\n'
            f'workers = 2\nmemory = "{memory}"\nfiles.compression = "zstd(1)"\n{cursor}'
        )

    def files(self):
        return {f: f.stat().st_size for f in self.path.rglob("*") if f.is_file()}

    def run(self, log):
        before = self.files()
        used = measure(self.command, log, report=self.report)
        new = {f: size for f, size in self.files().items() if f not in before}
        data = [size for f, size in new.items() if f.suffix == ".parquet"]
        return used | {"written": sum(new.values()), "files": len(data)}


def one_round(lakes, postgres, options, number, log):
    results = {}
    for lake in lakes:
        shutil.rmtree(lake.path, ignore_errors=True)
    for step, change in STEPS.items():
        if change:
            postgres.psql("-c", change.format(rows=options.rows, round=number % 100))
            time.sleep(PAUSE)
        for lake in lakes:
            used = results[lake.method, step] = lake.run(log)
            print(
                f"round {number + 1}: {lake.method}: {step}: {used['wall']:.2f} s, {used['rss']:.0f} MiB, "
                f"read {size(used['read'])}, wrote {size(used['written'])} in {used['files']} files, {used['table']}",
                file=sys.stderr,
            )
    return results


def check(lakes, postgres, python):
    """Whether each lake has the source's rows, by a reader that is not ours."""
    micros = "(extract(epoch from updated_at) * 1000000)::bigint"
    expected = postgres.psql("-F", ",", "-c", SUMS.format(micros=micros, rows="public.orders")).stdout.strip()
    for lake in lakes:
        table = next(lake.path.rglob("_delta_log")).parent
        script = (
            "import sys, duckdb, deltalake\n"
            "files = [u.removeprefix('file://') for u in deltalake.DeltaTable(sys.argv[1]).file_uris()]\n"
            "print(*duckdb.execute(sys.argv[2], [files]).fetchone(), sep=',')"
        )
        query = SUMS.format(micros="epoch_us(updated_at)", rows="read_parquet(?)")
        found = subprocess.run([python, "-c", script, table, query], capture_output=True, text=True, check=True)
        if found.stdout.strip() != expected:
            raise SystemExit(f"{lake.method}: the lake has {found.stdout.strip()}, the source {expected}")


def middle(rounds, method, step, key):
    return statistics.median(results[method, step][key] for results in rounds)


def kept(figure, most):
    return f"{figure:.3g} of at most {most:g}, {'kept' if figure <= most else '**broken**'}"


def size(count):
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def table(rounds, methods, options, base):
    """One row for each method and step, and what was promised of it."""
    print(f"\n{options.rows:,} rows, `--memory {options.memory}`; medians of {len(rounds)}")
    print(", ".join(f"{name}: {seconds:.2f} s" for name, seconds in base["seconds"].items()))
    print("\n| method | run | wall | range | client CPU | peak RSS | read | written | x load, time | x load, bytes | promise |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for method in methods:
        load = {key: middle(rounds, method, "load", key) for key in ("wall", "written")}
        for step in STEPS:
            m = {key: middle(rounds, method, step, key) for key in ("wall", "cpu", "rss", "read", "written")}
            walls = [results[method, step]["wall"] for results in rounds]
            time_share, byte_share = m["wall"] / load["wall"], m["written"] / load["written"]
            print(
                f"| {method} | {step} | {m['wall']:.2f} s | {min(walls):.2f}-{max(walls):.2f} | {m['cpu']:.1f} s "
                f"| {m['rss']:.0f} MiB | {size(max(0, m['read'] - base['read']))} | {size(m['written'])} "
                f"| {time_share:.3f} | {byte_share:.3f} "
                f"| {promise(method, step, m, load, base, rounds, options)} |"
            )


def promise(method, step, m, load, base, rounds, options):
    """What issue 3 asks of this row, as a sentence with a verdict."""
    said = []
    if step.startswith("nothing") and method == "cursor":
        beyond = m["wall"] - base["seconds"]["`--version`"] - base["seconds"]["`psql -c 'select 1'`"]
        said.append(f"seconds beyond start and connection {kept(beyond, 1)}")
    if step == "1% clustered" and method == "cursor":
        said.append(f"time {kept(m['wall'] / load['wall'], 0.05)}")
        said.append(f"bytes {kept(m['written'] / load['written'], 0.05)}")
    if step == "1% spread":
        said.append(f"time {kept(m['wall'] / load['wall'], 1)}")
    if step.startswith("1%"):
        said.append(f"amplification {m['written'] / (load['written'] / 100):.0f}")
        if method == "diff":
            same = middle(rounds, method, "nothing, other tables busy", "wall")
            said.append(f"to nothing changed {kept(m['wall'] / same, 1.3)}")
            said.append(f"to the drain {m['wall'] / base['seconds'][DRAIN]:.1f}")
    if m["rss"] > float(options.memory.removesuffix("MiB")):
        said.append("memory **broken**")
    return "; ".join(said)


def references(program, postgres, log):
    """What any process and any connection costs."""
    start = [measure([program, "--version"], log) for _ in range(5)]
    connect = [measure([postgres.bin / "psql", "-X", "-c", "select 1", postgres.url], log) for _ in range(5)]
    drain = [postgres.bin / "psql", "-X", "-q", postgres.url, "-o", "/dev/null"]
    drains = {
        DRAIN: "copy public.orders to stdout (format binary)",
        "drain of the keys": "copy (select id from public.orders) to stdout (format binary)",
    }
    seconds = {
        "`--version`": statistics.median(m["wall"] for m in start),
        "`psql -c 'select 1'`": statistics.median(m["wall"] for m in connect),
    }
    for name, copy in drains.items():
        seconds[name] = statistics.median(measure([*drain, "-c", copy], log)["wall"] for _ in range(3))
    return {"seconds": seconds, "read": statistics.median(m["read"] for m in start)}


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=5_000_000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--only", default="cursor,xid,diff")
    options.add_argument("--memory", default="512MiB")
    options.add_argument("--program", type=pathlib.Path, default=TARGET / "release/table-backup")
    options.add_argument("--no-build", action="store_true")
    options = options.parse_args()
    methods = options.only.split(",")
    if not options.no_build:
        subprocess.run(["cargo", "build", "--release", "--bin", "table-backup"], cwd=ROOT, check=True)
    python = python_with(TARGET, "readers", ["deltalake==1.6.6", "duckdb==2.0.0"])
    log = TARGET / "bench-mirror.log"
    log.unlink(missing_ok=True)
    with PostgreSQL(TARGET) as postgres, tempfile.TemporaryDirectory(dir=TARGET) as folder:
        postgres.bench_table(ROOT / "benches/bench-table.sql", options.rows)
        postgres.psql("-c", STAMP)
        lakes = [Lake(options.program, pathlib.Path(folder), postgres.url, m, options.memory) for m in methods]
        base = references(options.program, postgres, log)
        rounds = []
        try:
            for number in range(options.rounds):
                rounds.append(one_round(lakes, postgres, options, number, log))
                check(lakes, postgres, python)
                # As autovacuum would: dead rows of one round must not slow the next.
                postgres.psql("-c", "vacuum (analyze) public.orders")
        finally:
            # Whole rounds count, also where a later one was stopped.
            if rounds:
                table(rounds, methods, options, base)


if __name__ == "__main__":
    main()
