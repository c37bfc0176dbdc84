#!/usr/bin/env python3
"""Upserts into ChromaDB: our client beside ChromaDB's own in Python.

    python3 benches/chroma.py --points 20000 --repeat 3

Both write the same points (384 numbers, about 1 KB of text, two keys of metadata) in
calls of 2,000 into a new collection of the same server, in turn. The time is from the
first call to the answer of the last one; making the points is not in it. CPU is that
of the client's process as a whole.
"""

import argparse
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import usage

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PACKAGES = ["chromadb==1.5.9"]
CALL = 2_000


def peer(port, name, points):
    """Runs in the environment that has `chromadb`; prints seconds."""
    import chromadb
    import numpy

    numbers = numpy.random.default_rng(1)
    vectors = (numbers.random((points, 384), dtype=numpy.float32) - 0.5).astype(numpy.float32)
    ids = [f"{number:032x}" for number in range(points)]
    texts = [f"chunk {number} " * 80 for number in range(points)]
    metadatas = [{"document": f"d{number // 20}", "page": number % 30} for number in range(points)]
    client = chromadb.HttpClient(host="127.0.0.1", port=port)
    collection = client.get_or_create_collection(name, embedding_function=None, configuration={"hnsw": {"space": "cosine"}})
    began = time.perf_counter()
    for start in range(0, points, CALL):
        part = slice(start, start + CALL)
        collection.upsert(ids=ids[part], embeddings=vectors[part], documents=texts[part], metadatas=metadatas[part])
    print(f"{time.perf_counter() - began:.3f}")
    assert collection.count() == points


class Server:
    """Runs while the context lasts; its folder goes with it."""

    def __init__(self, program):
        self.program = program
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="highwater-bench-")
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig=KILL", self.program, "run", "--host", "127.0.0.1", "--port", str(self.port), "--path", self.folder],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "ANONYMIZED_TELEMETRY": "False"},
        )
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            time.sleep(0.1)
        raise SystemExit("ChromaDB did not start")

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--points", type=int, default=20_000)
    options.add_argument("--repeat", type=int, default=3)
    options.add_argument("--ours", type=pathlib.Path, help="the example `chroma_write`, if it is built already")
    options.add_argument("--peer", nargs=3, metavar=("PORT", "NAME", "POINTS"), help=argparse.SUPPRESS)
    options = options.parse_args()
    if options.peer:
        port, name, points = options.peer
        return peer(int(port), name, int(points))
    ours = options.ours
    if not ours:
        subprocess.run(["cargo", "build", "--release", "--workspace", "--example", "chroma_write"], check=True, cwd=ROOT)
        ours = TARGET / "release/examples/chroma_write"
    # What `scripts/test` has installed does.
    python = TARGET / "chroma/bin/python"
    if not python.exists():
        python = usage.python_with(TARGET, "chroma", PACKAGES)
    results = {"highwater": [], "chromadb": []}
    log = pathlib.Path(tempfile.mkstemp(prefix="highwater-bench-")[1])
    with Server(python.parent / "chroma") as server:
        for turn in range(options.repeat):
            commands = {
                "highwater": [ours, f"chroma://127.0.0.1:{server.port}", f"ours{turn}", str(options.points)],
                "chromadb": [python, __file__, "--peer", str(server.port), f"peer{turn}", str(options.points)],
            }
            for who, command in commands.items():
                log.write_text("")
                used = usage.measure(command, log)
                used["seconds"] = float(log.read_text().split()[-1])
                results[who].append(used)
                print(f"{who:10} {used['seconds']:7.2f} s {used['cpu']:6.2f} s CPU {used['rss']:6.0f} MiB", file=sys.stderr)
    first = None
    print(f"| client | seconds | points/s | CPU s | peak MiB | x first |\n|---|---|---|---|---|---|")
    for who, runs in results.items():
        seconds = statistics.median(run["seconds"] for run in runs)
        cpu = statistics.median(run["cpu"] for run in runs)
        first = first or seconds
        peak = max(run["rss"] for run in runs)
        print(f"| {who} | {seconds:.2f} | {options.points / seconds:,.0f} | {cpu:.2f} | {peak:.0f} | {seconds / first:.2f} |")
    log.unlink()


if __name__ == "__main__":
    main()
