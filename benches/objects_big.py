#!/usr/bin/env python3
"""Large objects, and large ones among small ones: `object-sync` beside `s5cmd`.

    cargo build --workspace --release --locked --bin object-sync
    cargo build --workspace --release --locked --example s3_server
    benches/objects_big.py --rounds 5 --sets 1x2GiB,40x256MiB,mixed

A set is so many objects of so many bytes; `mixed` is 90% of 10 to 200 KB and 10% of 5 to
50 MB in every folder, `--mixed` objects in all (1,000: 2.8 GB). Each set goes to a bucket
and back. The server keeps a set in memory, and for `mixed` tells when each object was
there: of the median round a chart shows whether small objects wait for large ones.

Every contender of `up` has a server of its own, and of `across` (which `s5cmd` cannot) a
second one, so that nothing of the one before is left; in the first round all names and lengths and a sample of contents are compared.
A set that does not fit into memory and disk is refused before it is made.
"""

import argparse
import os
import pathlib
import random
import shutil
import statistics
import sys
import tempfile
import time

from bucket import Server, check_bucket, check_folder, empty, environment, files, make, room
from chart import Line, Panel, draw
from movers import Movers, options, slug
from usage import measure

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
UNITS = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10}
# Between the small ones (to 200 KB) and the large ones (from 5 MB) of `mixed`.
SMALL = 1_000_000
WHAT = {"up": "folder to bucket", "down": "bucket to folder", "across": "bucket to bucket, two servers"}
TONES = {"object-sync": "a", "object-sync, not durable": "d", "s5cmd": "b", "s5cmd, then sync": "b", "rclone": "c", "boto3": "d"}


def sizes(name, mixed):
    """The lengths of a set."""
    if name != "mixed":
        count, size = name.split("x")
        return [int(size[:-3]) * UNITS[size[-3:]]] * int(count)
    draw_of = random.Random(7)
    return [draw_of.randint(5_000_000, 50_000_000) if number % 10 == 4 else draw_of.randint(10_000, 200_000)
            for number in range(mixed)]


def run(movers, home, shape, name, server, round_, second=None):
    """One run of one contender: what it took, and for `mixed` when each object was there."""
    down, folder, log = shape == "down", home / "from", home / "log"
    to = lambda name: str(home / f"to{round_}" / slug(name)) if down else f"to/{slug(name)}/"  # noqa: E731
    command, target = movers.commands(shape, folder, to, server, second)[name], second or server
    # What the one before left to be written is not this one's.
    os.sync()
    cpu = lambda: sum(each.cpu() for each in {server, target})  # noqa: E731
    began, before = time.time(), cpu()
    used = measure(command, log, env=environment(server, second))
    used["server"] = cpu() - before
    there = files(to(name)) if down else target.objects(to(name))
    used["done"] = sorted((since - began, size) for size, since in there.values())
    if round_ == 0:
        check_folder(folder, to(name)) if down else check_bucket(folder, target, to(name))
    empty(home / f"to{round_}")
    return used


def fill(movers, home, server):
    """Puts the set under `from/`, which all of `down` and `across` read."""
    command = movers.sync(home / "from", "s3://lake/from/", "--no-ledger")
    measure([str(part) for part in command], home / "log", env=environment(server))
    check_bucket(home / "from", server, "from/")


def measured(asked, movers, home, shape, results):
    """All rounds of one shape, over the set in `home`."""
    names = [name for name in movers.commands(shape, "", str, *[Nowhere] * 2) if name != "boto3"]
    if shape == "up":
        for round_ in range(asked.rounds):
            for name in names:
                with Server(asked.server) as server:
                    keep(results, shape, name, lambda: run(movers, home, shape, name, server, round_), home)
        return
    with Server(asked.server) as server:
        fill(movers, home, server)
        for round_ in range(asked.rounds):
            for name in names:
                if shape == "down":
                    keep(results, shape, name, lambda: run(movers, home, shape, name, server, round_), home)
                    continue
                with Server(asked.server) as second:
                    keep(results, shape, name, lambda: run(movers, home, shape, name, server, round_, second), home)


class Nowhere:
    """A server for asking which contenders there are."""

    endpoint = access = secret = ""


def keep(results, shape, name, act, home):
    try:
        results.setdefault((shape, name), []).append(act())
    except RuntimeError as error:
        print(f"{shape}, {name}: {error}\n{(home / 'log').read_text()[-500:]}", file=sys.stderr)


def report(asked, name, wanted, results):
    total = sum(wanted)
    median = lambda runs, field: statistics.median(run[field] for run in runs)  # noqa: E731
    print(f"\n{name}: {len(wanted)} objects, {total / 1e9:.2f} GB, medians of {asked.rounds}, --memory {asked.memory}\n")
    print("| shape | what | s | range | MB/s | client CPU s/GB | server CPU s/GB | peak RSS | against `s5cmd` | against `s5cmd`, then `sync` |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for (shape, who), runs in results.items():
        wall, walls = median(runs, "wall"), [run["wall"] for run in runs]
        peers = [results.get((shape, peer)) for peer in ("s5cmd", "s5cmd, then sync")]
        against = [f"{median(peer, 'wall') / wall:.2f} x" if peer else "" for peer in peers]
        print(f"| {WHAT[shape]} | {who} | {wall:.2f} | {min(walls):.2f}-{max(walls):.2f} | {total / wall / 1e6:,.0f} "
              f"| {median(runs, 'cpu') / total * 1e9:.2f} | {median(runs, 'server') / total * 1e9:.2f} "
              f"| {max(run['rss'] for run in runs):.0f} MiB | {' | '.join(against)} |")


def small_ones(asked, wanted, results):
    """Whether small objects wait for large ones, as figures and as a chart."""
    print("\n| shape | what | half of the small ones | all of them | all objects | longest without a small one |\n|---|---|---|---|---|---|")
    columns = []
    large = sum(size for size in wanted if size >= SMALL)
    for shape in [shape for shape in asked.shapes.split(",") if (shape, "s5cmd") in results]:
        done, bytes_ = Panel(f"{WHAT[shape]}: small objects there, %", [], top=105), Panel("bytes of large objects there, GB", [])
        for who in ("object-sync", "s5cmd"):
            runs = sorted(results.get((shape, who), []), key=lambda run: run["wall"])
            if not runs:
                continue
            there = runs[len(runs) // 2]["done"]
            small = [at for at, size in there if size < SMALL]
            pause = max(later - earlier for earlier, later in zip([0.0, *small], small))
            print(f"| {WHAT[shape]} | {who} | {small[len(small) // 2]:.2f} s | {small[-1]:.2f} s | {there[-1][0]:.2f} s | {pause:.2f} s |")
            share = [(at, (number + 1) * 100 / len(small)) for number, at in enumerate(small)]
            done.lines.append(Line(who, TONES[who], [(0, 0), *share, (there[-1][0], 100)]))
            sums, points = 0, [(0, 0)]
            for at, size in there:
                sums += size if size >= SMALL else 0
                points.append((at, sums / 1e9))
            bytes_.lines.append(Line(who, TONES[who], points))
        columns.append([done, bytes_])
    note = f"{len(wanted)} objects: 90% of 10 to 200 KB, 10% of 5 to 50 MB ({large / 1e9:.1f} GB). Server on the same 2 cores. The median round."
    draw(pathlib.Path(asked.svg), "Small objects do not wait for large ones", note, columns)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--sets", default="1x2GiB,40x256MiB,mixed")
    arguments.add_argument("--mixed", type=int, default=1000, help="objects in the set `mixed`")
    arguments.add_argument("--shapes", default="up,down")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--svg", default=ROOT / "benches/objects-mixed.svg")
    options(arguments, TARGET, "s5cmd")
    asked = arguments.parse_args()
    TARGET.mkdir(exist_ok=True)
    movers = Movers(TARGET, asked.peers, asked.memory, asked.ours, asked.venv)
    for name in asked.sets.split(","):
        wanted, results = sizes(name, asked.mixed), {}
        home = pathlib.Path(tempfile.mkdtemp(prefix="bench-objects-", dir=TARGET))
        try:
            # Each server has one copy, with a tenth for what it costs to keep; the disk two.
            servers = 2 if "across" in asked.shapes else 1
            room(home, 1.1 * servers * sum(wanted), 2 * sum(wanted))
            make(home / "from", wanted)
            for shape in asked.shapes.split(","):
                measured(asked, movers, home, shape, results)
        finally:
            shutil.rmtree(home, ignore_errors=True)
        report(asked, name, wanted, results)
        if name == "mixed":
            small_ones(asked, wanted, results)


if __name__ == "__main__":
    main()
