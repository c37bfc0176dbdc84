"""The bench of `table-backup`: side by side with peers, in one run.

    benches/table-backup.py [--rows 5000000] [--repeat 5] [--only NAME,...]
                            [--scale] [--verbose-cost] [--processes] [--no-build]

Starts a PostgreSQL of its own, makes the bench table, and lets every contender
export it, in rounds (each once per round, so that noise hits all alike).
Prints a markdown table of medians: wall time, CPU time of the client, peak
resident memory (`wait4`), and the ratio to the first line, the one-connection drain.

    --scale         also 1/5 and 2 times the rows, for our own program
    --verbose-cost  also `--log verbose` against `--log silent`
    --processes     only two processes of one worker against one process of two

Peers are found in the Python environment `target/bench-py` (made on first use)
and in `target/peers/bin` (`cargo install rivet-cli --root target/peers`).
"""

import argparse
import contextlib
import json
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
PACKAGES = ["adbc-driver-postgresql==1.13.0", "pyarrow==26.0.1", "connectorx==0.4.6"]
sys.path.insert(0, str(ROOT / "benches"))

from contenders import Contender, contenders  # noqa: E402
from server import PostgreSQL  # noqa: E402


def measure(contender, log):
    """Wall seconds, client CPU seconds and peak RSS in MiB of one export."""
    shutil.rmtree(contender.out, ignore_errors=True)
    contender.out.mkdir(parents=True)
    start = time.perf_counter()
    with open(log, "ab") as said:
        children = [subprocess.Popen(c, stdout=said, stderr=said) for c in contender.commands]
        ended = [os.wait4(child.pid, 0) for child in children]
    wall = time.perf_counter() - start
    if any(status for _, status, _ in ended):
        raise RuntimeError(f"{contender.name} failed; see {log}")
    usage = [rusage for _, _, rusage in ended]
    cpu = sum(u.ru_utime + u.ru_stime for u in usage)
    size = sum(f.stat().st_size for f in contender.out.rglob("*.parquet"))
    return {"wall": wall, "cpu": cpu, "rss": sum(u.ru_maxrss for u in usage) / 1024, "size": size / 1e6}


def rounds(field, repeat, log):
    """Every contender once per round; those that fail are left out, and said."""
    results = {contender.name: [] for contender in field}
    for number in range(repeat):
        for contender in field:
            if results[contender.name] is None:
                continue
            try:
                results[contender.name].append(measure(contender, log))
                seconds = results[contender.name][-1]["wall"]
                print(f"round {number + 1}: {contender.name} {seconds:.2f} s", file=sys.stderr)
            except (RuntimeError, OSError) as problem:
                print(f"left out: {problem}", file=sys.stderr)
                results[contender.name] = None
    return {name: runs for name, runs in results.items() if runs}


def table(results, rows):
    middle = {
        name: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for name, runs in results.items()
    }
    first = next(iter(middle.values()))["wall"]
    print(f"\n{rows:,} rows; medians of {max(map(len, results.values()))}\n")
    print("| what | wall | range | client CPU | peak RSS | Parquet | x first | rows/s |")
    print("|---|---|---|---|---|---|---|---|")
    for name, m in middle.items():
        walls = [run["wall"] for run in results[name]]
        size = f"{m['size']:.0f} MB" if m["size"] else ""
        print(
            f"| {name} | {m['wall']:.2f} s | {min(walls):.2f}-{max(walls):.2f} | {m['cpu']:.1f} s "
            f"| {m['rss']:.0f} MiB | {size} | {m['wall'] / first:.2f} | {rows / m['wall']:,.0f} |"
        )


def bench_python():
    """A Python with the peers that come from PyPI."""
    home = TARGET / "bench-py"
    stamp = home / ".stamp"
    if not stamp.exists() or stamp.read_text() != "\n".join(PACKAGES):
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        subprocess.run([home / "bin/pip", "install", "-q", *PACKAGES], check=True)
        stamp.write_text("\n".join(PACKAGES))
    return home / "bin/python"


@contextlib.contextmanager
def s3_server():
    """The test kit's S3 server, in memory; ends with this program."""
    server = subprocess.Popen(
        [TARGET / "release/examples/s3_server", "--bucket", "lake"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield json.loads(server.stdout.readline())
    finally:
        server.stdin.close()
        server.wait()


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=5_000_000)
    options.add_argument("--repeat", type=int, default=5)
    options.add_argument("--only", default="")
    options.add_argument("--scale", action="store_true")
    options.add_argument("--verbose-cost", action="store_true")
    options.add_argument("--processes", action="store_true")
    options.add_argument("--no-build", action="store_true")
    options = options.parse_args()

    if not options.no_build:
        subprocess.run(
            ["cargo", "build", "--release", "--bin", "table-backup", "--example", "s3_server"], cwd=ROOT, check=True
        )
    python = None if options.processes else bench_python()
    log = TARGET / "bench.log"
    log.unlink(missing_ok=True)
    with PostgreSQL(TARGET) as postgres, tempfile.TemporaryDirectory(dir=TARGET) as folder, contextlib.ExitStack() as stack:
        ours = (TARGET / "release/table-backup").exists()
        s3 = stack.enter_context(s3_server()) if (TARGET / "release/examples/s3_server").exists() else None
        bench = lambda rows: postgres.bench_table(ROOT / "benches/bench-table.sql", rows)  # noqa: E731
        field = contenders(postgres, pathlib.Path(folder), python, TARGET, s3)
        wanted = [c for c in field if not options.only or any(o in c.name for o in options.only.split(","))]

        bench(options.rows)
        if options.processes:
            table(rounds([c for c in field if "workers" in c.name], options.repeat, log), options.rows)
            return
        run = [c for c in wanted if not any(word in c.name for word in ("verbose", "silent", "workers"))]
        table(rounds(run, options.repeat, log), options.rows)
        if options.verbose_cost and ours:
            run = [c for c in field if "verbose" in c.name or "silent" in c.name]
            table(rounds(run, options.repeat, log), options.rows)
        if options.scale and ours:
            for rows in (options.rows // 5, options.rows * 2):
                bench(rows)
                run = [c for c in field if c.name in ("table-backup, local", "psql drain, 1 connection")]
                table(rounds(run, options.repeat, log), rows)


if __name__ == "__main__":
    main()
