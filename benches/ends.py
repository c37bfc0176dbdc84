"""How soon every process of a run has ended after one of them was lost.

    benches/ends.py [--rows 2000000] [--rounds 3] [--no-build]

Starts a PostgreSQL of its own and a load in three processes, and when all three
are at work kills one (SIGKILL) or freezes one (SIGSTOP): each of them in turn, in
each round. Prints a markdown table: seconds from the signal until the last of the
other two has ended, and what they ended with.
"""

import argparse
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
sys.path.insert(0, str(ROOT / "benches"))

from server import PostgreSQL, free_port  # noqa: E402

PROCESSES = 3
# Longer is a failure of what is measured.
PATIENCE = 60


def start(config, folder):
    """Three processes of one load, encrypted as between hosts."""
    hosts = folder / "hosts.txt"
    hosts.write_text("".join(f"127.0.0.1:{free_port()}\n" for _ in range(PROCESSES)))
    command = [TARGET / "release/table-backup", "run", config, "--hosts", hosts, "--cluster-key-file", folder / "key"]
    return [
        subprocess.Popen(
            [*command, "--process", str(process), "--progress", "never"],
            stdout=subprocess.DEVNULL,
            stderr=open(folder / f"said-{process}", "wb"),
        )
        for process in range(PROCESSES)
    ]


def at_work(lake, team):
    """Waits until the first splits are in the load log."""
    deadline = time.monotonic() + PATIENCE
    while not list(lake.rglob("*.parquet")):
        if time.monotonic() > deadline or any(process.poll() is not None for process in team):
            raise RuntimeError("the load did not begin")
        time.sleep(0.01)


def lose(config, folder, victim, how):
    """Seconds until the others have ended, and their exit codes."""
    lake = folder / f"lake-{victim}-{how.name}-{time.monotonic_ns()}"
    config.write_text(config.read_text().split("lake =")[0] + f'lake = "file:{lake}"\n')
    team = start(config, folder)
    try:
        at_work(lake, team)
        team[victim].send_signal(how)
        start_time = time.perf_counter()
        others = [process for process in team if process is not team[victim]]
        codes = [process.wait(timeout=PATIENCE) for process in others]
        return time.perf_counter() - start_time, codes
    finally:
        for process in team:
            process.kill()
            process.wait()


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=2_000_000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--no-build", action="store_true")
    options = options.parse_args()
    if not options.no_build:
        subprocess.run(["cargo", "build", "--release", "--locked", "--bin", "table-backup"], cwd=ROOT, check=True)
    with PostgreSQL(TARGET) as postgres, tempfile.TemporaryDirectory(dir=TARGET) as folder:
        folder = pathlib.Path(folder)
        postgres.bench_table(ROOT / "benches/bench-table.sql", options.rows)
        config = folder / "load.toml"
        settings = {"source": postgres.url, "workers": 1, "memory": "256MiB", "epoch.bytes": "8MiB", "files.target": "8MiB"}
        config.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items()))
        (folder / "key").write_text("k" * 48)
        (folder / "key").chmod(0o600)
        print("| lost | ended after, median | worst | runs | exit codes of the others |")
        print("|---|---|---|---|---|")
        for how, name in ((signal.SIGKILL, "kill -9"), (signal.SIGSTOP, "SIGSTOP")):
            ends = [lose(config, folder, victim, how) for _ in range(options.rounds) for victim in range(PROCESSES)]
            seconds = [end[0] for end in ends]
            codes = sorted({code for end in ends for code in end[1]})
            print(f"| {name} | {statistics.median(seconds):.2f} s | {max(seconds):.2f} s | {len(ends)} | {codes} |")


if __name__ == "__main__":
    main()
