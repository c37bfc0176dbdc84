#!/usr/bin/env python3
"""`lake-compact` beside the compaction of `deltalake`, on one table of many small files.

    cargo build --release --bin lake-compact
    benches/compact.py [--files 2000] [--rows 5000] [--rounds 3]

The files are written once; every contender gets a fresh folder of hard links to
them, so that all read the same bytes. Keys are in no order across the files: each
file spans the whole key range. What is left is counted and checked for order.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

from usage import measure, python_with

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = ["deltalake==1.6.6", "pyarrow==26.0.0", "numpy"]

MAKE = """
import sys, json, time, uuid, numpy as np, pyarrow as pa, pyarrow.parquet as pq, deltalake
home, files, rows = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
random = np.random.default_rng(7)
ids = random.permutation(files * rows).astype("int64")
schema = pa.schema([
    ("id", pa.int64()), ("customer_id", pa.int32()), ("status", pa.string()), ("email", pa.string()),
    ("note", pa.string()), ("amount", pa.decimal128(12, 2)), ("qty", pa.int32()), ("price", pa.float64()),
    ("paid", pa.bool_()), ("created_at", pa.timestamp("us", "UTC")), ("ship_date", pa.date32()),
])
deltalake.DeltaTable.create(home, schema)
words = np.array(["new", "paid", "packed", "shipped", "closed"])
stamp = int(time.time() * 1000)
adds = []
for number in range(files):
    own = ids[number * rows:(number + 1) * rows]
    customer = random.integers(0, 1_000_000, rows)
    cents = random.integers(0, 10_000_000, rows)
    table = pa.table([
        pa.array(own), pa.array(customer.astype("int32")), pa.array(words[random.integers(0, 5, rows)]),
        pa.array([f"customer{n}@example.org" for n in customer]),
        pa.array([None if n % 3 else f"note {n:x} of order {o}" for n, o in zip(cents, own)]),
        pa.array(cents).cast(pa.decimal128(19, 0)).cast(pa.decimal128(12, 2)),
        pa.array(random.integers(1, 100, rows).astype("int32")), pa.array(random.random(rows) * 1000),
        pa.array(random.integers(0, 2, rows).astype(bool)),
        pa.array(1_600_000_000_000_000 + own * 1_000_000).cast(pa.timestamp("us", "UTC")),
        pa.array((18_000 + own % 2000).astype("int32")).cast(pa.date32()),
    ], schema=schema)
    name = f"part-{number:05}-{uuid.uuid4()}.parquet"
    pq.write_table(table, f"{home}/{name}", compression="snappy")
    import os
    stats = {"numRecords": rows, "minValues": {"id": int(own.min())}, "maxValues": {"id": int(own.max())},
             "nullCount": {"id": 0}}
    adds.append(json.dumps({"add": {"path": name, "partitionValues": {}, "size": os.path.getsize(f"{home}/{name}"),
                                    "modificationTime": stamp, "dataChange": True, "stats": json.dumps(stats)}}))
# Twenty commits, as twenty syncs would make them.
step = max(1, files // 20)
for version, start in enumerate(range(0, files, step), 1):
    with open(f"{home}/_delta_log/{version:020}.json", "w") as entry:
        entry.write("\\n".join(adds[start:start + step]) + "\\n")
"""

COMPACT = """
import sys, json, deltalake
table = deltalake.DeltaTable(sys.argv[1])
print(json.dumps(table.optimize.compact(target_size=128 << 20)))
"""

Z_ORDER = """
import sys, json, deltalake
table = deltalake.DeltaTable(sys.argv[1])
print(json.dumps(table.optimize.z_order(sys.argv[2].split(","), target_size=128 << 20)))
"""

CHECK = """
import sys, json, deltalake, pyarrow as pa, pyarrow.parquet as pq, pyarrow.compute as pc
table = deltalake.DeltaTable(sys.argv[1])
files = [f.replace("file://", "") for f in table.file_uris()]
ranges, rows, total, ordered = [], 0, 0, True
for file in files:
    ids = pq.read_table(file, columns=["id"])["id"].combine_chunks()
    rows += len(ids); total += pc.sum(ids).as_py() if len(ids) else 0
    ordered &= len(ids) < 2 or pc.all(pc.less_equal(ids[:-1], ids[1:])).as_py()
    ranges.append((pc.min(ids).as_py(), pc.max(ids).as_py()))
ranges.sort()
apart = all(a[1] < b[0] for a, b in zip(ranges, ranges[1:]))
import os
sizes = sorted(os.path.getsize(f) >> 20 for f in files)
print(json.dumps({"files": len(files), "rows": rows, "sum": total, "sorted": bool(ordered and apart), "MiB": sizes}))
"""


def links(source, target):
    """A table of its own that shares the data files."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, copy_function=os.link)
    log = target / "_delta_log"
    shutil.rmtree(log)
    shutil.copytree(source / "_delta_log", log)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", default="512MiB")
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "target" / "bench-compact")
    parser.add_argument("--program", type=pathlib.Path, default=ROOT / "target" / "release" / "lake-compact")
    parser.add_argument("--only", nargs="*", help="names of contenders")
    parser.add_argument("--python", type=pathlib.Path, help="a Python that has deltalake and pyarrow")
    options = parser.parse_args()
    python = options.python or python_with(ROOT / "target", "compact", PACKAGES)
    folder = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / f"made-{options.files}-{options.rows}"
    if not made.exists():
        draft = folder / "draft"
        shutil.rmtree(draft, ignore_errors=True)
        subprocess.run([python, "-c", MAKE, draft, str(options.files), str(options.rows)], check=True)
        draft.rename(made)
    table = folder / "table"
    ours = [options.program, "run", "--lake", f"file:{table}", "--memory", options.memory, "--progress", "never",
            "--target", "128MiB"]
    contenders = {
        "lake-compact, joined": ours,
        "lake-compact, sorted by id": [*ours, "--sort-by", "id"],
        "lake-compact, z-ordered by id, customer_id": [*ours, "--z-order", "id,customer_id"],
        "deltalake optimize.compact": [python, "-c", COMPACT, table],
        "deltalake optimize.z_order(id)": [python, "-c", Z_ORDER, table, "id"],
        "deltalake optimize.z_order(id, customer_id)": [python, "-c", Z_ORDER, table, "id,customer_id"],
    }
    if options.only:
        contenders = {name: command for name, command in contenders.items()
                      if any(word in name for word in options.only)}
    figures = {name: [] for name in contenders}
    expected = None
    for number in range(options.rounds):
        for name, command in contenders.items():
            links(made, table)
            time.sleep(1)
            try:
                figures[name].append(measure(command, folder / "log"))
            except RuntimeError as error:
                print(f"{name}: {error}", file=sys.stderr)
                continue
            if number == 0:
                told = json.loads(subprocess.run([python, "-c", CHECK, table], check=True, stdout=subprocess.PIPE).stdout)
                expected = expected or (told["rows"], told["sum"])
                assert (told["rows"], told["sum"]) == expected, f"{name}: {told}, not {expected}"
                print(f"{name}: {told}", flush=True)
    print(f"\n| {options.files:,} files of {options.rows:,} rows | wall | CPU | peak RSS |\n|---|---|---|---|")
    for name, runs in figures.items():
        if runs:
            middle = lambda key: statistics.median(run[key] for run in runs)  # noqa: E731
            print(f"| {name} | {middle('wall'):.1f} s | {middle('cpu'):.1f} s | {middle('rss'):,.0f} MiB |")


if __name__ == "__main__":
    main()
