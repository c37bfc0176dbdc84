#!/usr/bin/env python3
"""`object-sync` beside `s5cmd`, `rclone` and `boto3`, on one S3 server of this machine.

    cargo build --workspace --release --locked --bin object-sync
    cargo build --workspace --release --locked --example s3_server
    benches/objects.py --objects 20000 --rounds 5
    benches/objects.py --objects 100000 --bytes 2000 --rounds 5 --shapes again

Shapes: `up` (folder to bucket), `down`, `across` (bucket to bucket through the client,
two servers) and `again` (nothing has changed since). Each round runs every contender
once per shape, in turn, so that a slow moment of the machine meets all of them. Every
target is new, is compared with the source in the first round (all names and lengths, a
sample of contents) and emptied after each run. Reported are medians.

The floor of `again` is listing both sides once, one after the other: `s5cmd ls` of the
bucket and `find` over the folder, neither of which compares anything.
"""

import argparse
import os
import pathlib
import shutil
import statistics
import sys
import tempfile

from bucket import Server, check_bucket, check_folder, empty, environment, make, room
from movers import Movers, options, remote, slug
from usage import measure

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
LISTINGS = ("listing the bucket, s5cmd ls", "listing the folder, find")
WHAT = {"up": "folder to bucket", "down": "bucket to folder", "across": "bucket to bucket, two servers",
        "again": "nothing has changed"}


class Bench:
    def __init__(self, asked, home, first, second):
        self.asked, self.home, self.first, self.second = asked, home, first, second
        self.movers = Movers(TARGET, asked.peers, asked.memory, asked.ours, asked.venv)
        self.folder, self.log, self.results = home / "from", home / "log", {}

    def fill(self):
        """The folder, and the same objects under `from/` and (with a record) `again/`."""
        make(self.folder, [self.asked.bytes] * self.asked.objects)
        shapes = self.asked.shapes.split(",")
        if shapes != ["again"]:
            self.put("from/", "--no-ledger")
        if "again" in shapes:
            self.put("again/")

    def put(self, prefix, *more):
        command = self.movers.sync(self.folder, f"s3://lake/{prefix}", *more)
        measure([str(part) for part in command], self.log, env=environment(self.first))
        check_bucket(self.folder, self.first, prefix)

    def run(self, shape, name, command, env, log=None):
        # What the one before left to be written is not this one's.
        os.sync()
        before = self.first.cpu() + self.second.cpu()
        used = measure(command, log or self.log, env=env)
        used["server"] = self.first.cpu() + self.second.cpu() - before
        self.results.setdefault((shape, name), []).append(used)

    def copy(self, shape, round_):
        """Every contender once, each to a place of its own."""
        down, across = shape == "down", shape == "across"
        server, env = self.second if across else self.first, environment(self.first, self.second if across else None)
        to = lambda name: str(self.home / f"to{round_}" / slug(name)) if down else f"to/{slug(name)}/"  # noqa: E731
        for name, command in self.movers.commands(shape, self.folder, to, self.first, self.second).items():
            if name.startswith("boto3") and round_ >= self.asked.boto3_rounds:
                continue
            try:
                self.run(shape, name, command, env)
                if round_ == 0 and down:
                    check_folder(self.folder, to(name))
                elif round_ == 0:
                    check_bucket(self.folder, server, to(name))
            except RuntimeError as error:
                print(f"{shape}, {name}: {error}\n{self.log.read_text()[-500:]}", file=sys.stderr)
                self.results.pop((shape, name), None)
            empty(self.home / f"to{round_}")
            server.forget("to/")

    def again(self):
        """Runs that find nothing to do, and the listings alone."""
        env, prefix = environment(self.first), "again/"
        before = self.first.objects(prefix)
        bucket = f"s3://lake/{prefix}"
        looks = {
            LISTINGS[0]: self.movers.s5cmd(self.first, "ls", f"{bucket}*"),
            LISTINGS[1]: ["find", self.folder, "-type", "f", "-printf", "%s %T@ %P\\n"],
            "object-sync": self.movers.sync(self.folder, bucket),
            "s5cmd": self.movers.s5cmd(self.first, "sync", f"{self.folder}/", bucket),
            # Without these two it asks once for every object.
            "rclone": self.movers.rclone("--update", "--use-server-modtime", self.folder, remote(self.first, prefix)),
        }
        for name, command in looks.items():
            if name in (*LISTINGS, "object-sync", *self.movers.peers):
                out = "/dev/null" if name in LISTINGS else None
                self.run("again", name, [str(part) for part in command], env, out)
        if self.first.objects(prefix) != before:
            raise RuntimeError("a run with nothing to do has written objects")

    def median(self, shape, name, field):
        runs = self.results.get((shape, name))
        return statistics.median(run[field] for run in runs) if runs else None


def report(bench):
    asked, objects = bench.asked, bench.asked.objects
    print(f"{objects} objects of {asked.bytes} bytes, medians of {asked.rounds}, --memory {asked.memory}\n")
    print("| shape | what | s | range | objects/s | client CPU ms/object | server CPU ms/object | peak RSS |")
    print("|---|---|---|---|---|---|---|---|")
    for (shape, name), runs in sorted(bench.results.items(), key=lambda item: list(WHAT).index(item[0][0])):
        of = lambda field: bench.median(shape, name, field)  # noqa: B023, E731
        walls = [run["wall"] for run in runs]
        print(f"| {WHAT[shape]} | {name} | {of('wall'):.2f} | {min(walls):.2f}-{max(walls):.2f} | {objects / of('wall'):,.0f} "
              f"| {of('cpu') / objects * 1e3:.3f} | {of('server') / objects * 1e3:.3f} | {of('rss'):.0f} MiB |")
    print("\n| promise | figure | kept |\n|---|---|---|")
    for shape in ("up", "down", "across"):
        own = bench.median(shape, "object-sync", "wall")
        for peer, least in (("s5cmd", 1.2), ("rclone", 1.5), ("boto3", 5.0)):
            other = bench.median(shape, peer, "wall")
            if own and other:
                print(f"| {shape}: {least} x the objects/s of `{peer}` | {other / own:.2f} x | {yes(other / own >= least)} |")
        cpu, other = bench.median(shape, "object-sync", "cpu"), bench.median(shape, "s5cmd", "cpu")
        if cpu and other:
            print(f"| {shape}: half of the client CPU of `s5cmd` | {cpu / other:.2f} x | {yes(cpu <= other / 2)} |")
    peaks = [run["rss"] for (_, name), runs in bench.results.items() if name.startswith("object-sync") for run in runs]
    print(f"| peak memory of all runs, with `--memory {asked.memory}` | {max(peaks):.0f} MiB | "
          f"{yes(asked.memory == '128MiB' and max(peaks) <= 128)} |")
    own, floor = bench.median("again", "object-sync", "wall"), [bench.median("again", name, "wall") for name in LISTINGS]
    if own and all(floor):
        print(f"| again: the two listings + 10% | {own / sum(floor):.2f} x | {yes(own <= 1.1 * sum(floor))} |")


def yes(kept):
    return "yes" if kept else "**no**"


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--objects", type=int, default=5000)
    arguments.add_argument("--bytes", type=int, default=100_000)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--boto3-rounds", type=int, default=1, help="boto3 takes long: so many rounds of it")
    arguments.add_argument("--shapes", default="up,down,across,again")
    options(arguments, TARGET, "s5cmd,rclone,boto3")
    asked = arguments.parse_args()
    shapes = asked.shapes.split(",")
    TARGET.mkdir(exist_ok=True)
    home = pathlib.Path(tempfile.mkdtemp(prefix="bench-objects-", dir=TARGET))
    whole = asked.objects * asked.bytes
    try:
        # In the servers: the sources, and one target at a time; on disk: both.
        room(home, 3 * whole, 2 * asked.objects * max(asked.bytes, 4096))
        with Server(asked.server) as first, Server(asked.server) as second:
            bench = Bench(asked, home, first, second)
            bench.fill()
            for round_ in range(asked.rounds):
                for shape in shapes:
                    bench.again() if shape == "again" else bench.copy(shape, round_)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    report(bench)


if __name__ == "__main__":
    main()
