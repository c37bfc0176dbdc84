#!/usr/bin/env python3
"""How many requests at once `object-sync` finds, against a far server and a busy one.

    cargo build --workspace --release --locked --bin object-sync
    cargo build --workspace --release --locked --example s3_server
    benches/pace.py --delay 50 --rounds 3     # every request takes 50 ms longer
    benches/pace.py --overload                # a server that more at once make slower, or that refuses

`--delay`: nothing is configured for `object-sync`; beside it stand fixed numbers of
requests at once: `s5cmd --numworkers`, `rclone --transfers`, and `object-sync` itself at a
server that admits so many at once and lets the rest wait, which is the best that a fixed
number could do for it. What counts is the rate from the fifth second on.

`--overload`: requests at once and throughput over time, as the server saw them (in steps
of 250 ms), are drawn. Its best is known: `--best-at` requests, each of 50 ms. With twice
as many it does half.

Everybody copies the same folder of small files into an empty bucket of a server of its
own, and is ended after `--seconds` if it has not ended by then.
"""

import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time

from bucket import Server, environment, make
from chart import Line, Panel, draw
from movers import Movers, options, remote

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
# By then the number must have been found.
FOUND_BY = 5.0
TONES = {"object-sync": "a", "s5cmd": "b", "rclone": "c"}


class Run:
    """One contender for so many seconds: when objects were there, and the server's load."""

    def __init__(self, asked, home, command_of, *bearing):
        with Server(asked.server, *bearing) as server, open(home / "log", "ab") as log:
            os.sync()
            command, env = [str(part) for part in command_of(server)], environment(server)
            began = time.time()
            child = subprocess.Popen(command, stdout=log, stderr=log, env=env)
            try:
                self.exit = child.wait(asked.seconds)
            except subprocess.TimeoutExpired:
                self.exit = None
            took = time.time() - began
            # Before it is ended: what it then gives up is not its doing.
            looks = server.ask("load")
            there = [since - began for _, since in server.objects("to/").values()]
            end(child)
        self.done = sorted(at for at in there if at <= took)
        self.looks = [(at - began, *look) for at, *look in looks if 0 <= at - began <= took]

    def rate(self, since=FOUND_BY):
        """Objects a second from then on."""
        later = [at for at in self.done if at >= since]
        if len(later) < 2 or later[-1] < since + 1:
            raise SystemExit("all objects were copied too soon to tell: ask for more --objects")
        return len(later) / (later[-1] - since)

    def first(self):
        """Objects a second before that."""
        return sum(at < FOUND_BY for at in self.done) / FOUND_BY

    def at_once(self, since=FOUND_BY):
        """Requests at once, on the mean."""
        return statistics.mean(look[1] for look in self.looks if look[0] >= since)


def end(child):
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def delay(asked, home, movers):
    """A far server: found against fixed."""
    folder, delay = home / "from", asked.delay
    ours = lambda server: movers.sync(folder, "s3://lake/to/")  # noqa: E731
    field = {("object-sync, found", None): (ours, ())}
    for fixed in map(int, asked.fixed.split(",")):
        field[("object-sync, so many admitted", fixed)] = (ours, ("--admit", fixed))
        if "s5cmd" in movers.peers:
            field[("s5cmd", fixed)] = (
                lambda server, n=fixed: movers.s5cmd(server, "cp", f"{folder}/", "s3://lake/to/", workers=n), ())
        if "rclone" in movers.peers:
            field[("rclone", fixed)] = (
                lambda server, n=fixed: movers.rclone(folder, remote(server, "to/"), transfers=n), ())
    runs = {who: [] for who in field}
    for _ in range(asked.rounds):
        for who, (command_of, bearing) in field.items():
            runs[who].append(Run(asked, home, command_of, "--delay", delay, *bearing))
            # Fails now, not after all of them, where there were too few objects.
            runs[who][-1].rate()
    median = lambda who, what: statistics.median(what(run) for run in runs[who])  # noqa: E731
    best = max((who for who in runs if who[1]), key=lambda who: median(who, Run.rate))
    print(f"{asked.objects} objects of {asked.bytes} bytes, {delay} ms added to every request, medians of {asked.rounds}\n")
    print(f"| what | fixed at | at once | objects/s before {FOUND_BY:.0f} s | objects/s after | of number / {delay} ms | of the best fixed |")
    print("|---|---|---|---|---|---|---|")
    for who in sorted(runs, key=lambda who: (who[0], who[1] or 0)):
        name, fixed = who
        rate = median(who, Run.rate)
        share = f"{rate / (fixed / delay * 1e3):.2f}" if fixed else f"{rate / (median(who, Run.at_once) / delay * 1e3):.2f}"
        print(f"| {name} | {fixed or ''} | {median(who, Run.at_once):.0f} | {median(who, Run.first):,.0f} "
              f"| {rate:,.0f} | {share} | {rate / median(best, Run.rate):.2f} |")
    found = median(("object-sync, found", None), Run.rate) / median(best, Run.rate)
    print(f"\nFound without configuration: {found:.2f} x the best fixed ({best[0]}, {best[1]}); "
          f"promised 0.9: {'kept' if found >= 0.9 else '**not kept**'}")


def overload(asked, home, movers):
    """Busy servers: over time."""
    folder, delay = home / "from", asked.delay or 50
    field = {
        "object-sync": lambda server: movers.sync(folder, "s3://lake/to/"),
        "s5cmd": lambda server: movers.s5cmd(server, "cp", f"{folder}/", "s3://lake/to/"),
        "rclone": lambda server: movers.rclone(folder, remote(server, "to/")),
    }
    servers = {
        f"slower with more than {asked.best_at} at once": ("--best-at", asked.best_at),
        f"refuses more than {asked.refuse_above} at once": ("--refuse-above", asked.refuse_above),
    }
    columns = []
    print(f"{asked.objects} objects of {asked.bytes} bytes, at most {asked.seconds:.0f} s, each request {delay} ms\n")
    print("| server | what | at once, last third | objects/s, last third | of its best | refused | ended |\n|---|---|---|---|---|---|---|")
    for title, (option, number) in servers.items():
        best = number / delay * 1e3
        rates = Panel(f"objects/s, {title}", [], [(best, f"its best: {best:,.0f}")])
        at_once = Panel("requests at once", [], [(number, str(number))])
        for who in ("object-sync", *movers.peers):
            run = Run(asked, home, field[who], "--delay", delay, option, number)
            until = run.looks[-1][0]
            last = [look for look in run.looks if until * 2 / 3 <= look[0] < until - 0.5]
            rate = sum(look[2] for look in last) / (len(last) * 0.25)
            print(f"| {title} | {who} | {statistics.mean(look[1] for look in last):.0f} | {rate:,.0f} | {rate / best:.2f} "
                  f"| {sum(look[3] for look in run.looks):,} | {'after the time' if run.exit is None else f'exit {run.exit}'} |")
            rates.lines.append(Line(who, TONES[who], smooth(run.looks, 2, 4)))
            at_once.lines.append(Line(who, TONES[who], smooth(run.looks, 1, 1)))
        columns.append([rates, at_once])
    note = f"Each request takes {delay} ms, and more as said; {asked.bytes / 1e3:g} KB objects, seen by the server. Nothing configured."
    draw(pathlib.Path(asked.svg), "A server that is asked too much", note, columns)


def smooth(looks, field, over):
    """One field of the looks over time; counts become rates, over so many steps."""
    per = 0.25 if field == 2 else 1
    points = []
    for number in range(len(looks)):
        some = looks[max(0, number - over + 1):number + 1]
        points.append((looks[number][0], sum(look[field] for look in some) / len(some) / per))
    return points


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--delay", type=int, help="milliseconds that every request takes longer")
    arguments.add_argument("--overload", action="store_true")
    arguments.add_argument("--objects", type=int, default=60_000)
    arguments.add_argument("--bytes", type=int, default=10_000)
    arguments.add_argument("--seconds", type=float, default=30)
    arguments.add_argument("--rounds", type=int, default=1, help="of --delay")
    arguments.add_argument("--fixed", default="16,32,64,128,256,512")
    arguments.add_argument("--best-at", type=int, default=24)
    arguments.add_argument("--refuse-above", type=int, default=40)
    arguments.add_argument("--svg", default=ROOT / "benches/objects-overload.svg")
    options(arguments, TARGET, "s5cmd,rclone")
    asked = arguments.parse_args()
    if not asked.overload and asked.delay is None:
        arguments.error("--delay MILLISECONDS or --overload")
    TARGET.mkdir(exist_ok=True)
    movers = Movers(TARGET, asked.peers, asked.memory, asked.ours, asked.venv)
    home = pathlib.Path(tempfile.mkdtemp(prefix="bench-pace-", dir=TARGET))
    try:
        make(home / "from", [asked.bytes] * asked.objects)
        (overload if asked.overload else delay)(asked, home, movers)
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
