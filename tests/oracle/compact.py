"""What a compaction did to a table, as readers see it that we did not write.

Usage: compact.py '{"do": WHAT, "table": FOLDER, ...}'; prints one line of JSON, and
exits 0 if all is as it should be.

make     writes a Delta table of many small files, of all types, by `deltalake`
int96    writes a table whose files hold their timestamps in 96 bits, as old Spark did
int96_is it holds just these rows, in files without such timestamps
append   adds rows `from` to `to` to it
delete   removes rows by `where`
overwrite makes the rows of version `with` the whole table
same     the rows of versions `before` and `after` are the same, as multisets
newest   version `after` holds of each key of `before` the row with the greatest `by`
order    each file is sorted by `by`, and files of a partition do not overlap
files    how many files, and in which partitions
"""

import datetime
import decimal
import json
import os
import sys

import deltalake
import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

import canonical


def rows_of(start, stop):
    numbers = range(start, stop)
    when = lambda n: datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(minutes=n)  # noqa: E731
    scattered = [(n * 7919) % 100_003 for n in numbers]
    table = pa.table({
        "id": pa.array(scattered, pa.int64()),
        "version": pa.array([n % 17 for n in numbers], pa.int32()),
        "part": pa.array([["red", "green blue", None, "a/b=ü%"][n % 4] for n in numbers], pa.string()),
        "short": pa.array([None if n % 5 == 0 else n % 100 for n in numbers], pa.int16()),
        "tiny": pa.array([n % 7 for n in numbers], pa.int8()),
        "real": pa.array([None if n % 9 == 0 else n / 3 for n in numbers], pa.float64()),
        "single": pa.array([n / 7 for n in numbers], pa.float32()),
        "amount": pa.array([decimal.Decimal(n) / 100 for n in numbers], pa.decimal128(12, 2)),
        "wide": pa.array([decimal.Decimal(n) * 10**20 for n in numbers], pa.decimal128(38, 0)),
        "words": pa.array([None if n % 11 == 0 else f"row {n} " * (n % 4) for n in numbers], pa.string()),
        "bytes": pa.array([None if n % 13 == 0 else f"b{n}".encode() for n in numbers], pa.binary()),
        "yes": pa.array([None if n % 6 == 0 else n % 2 == 0 for n in numbers], pa.bool_()),
        "day": pa.array([18_000 + n % 500 for n in numbers], pa.int32()).cast(pa.date32()),
        "at": pa.array([when(n) for n in scattered], pa.timestamp("us", "UTC")),
        "list": pa.array([None if n % 8 == 0 else [n, None, n + 1][: n % 4] for n in numbers], pa.list_(pa.int64())),
    })
    # Two columns that must not be NULL.
    fields = [field.with_nullable(field.name not in ("id", "version")) for field in table.schema]
    return table.cast(pa.schema(fields))


def make(question):
    table, files, rows = question["table"], question["files"], question["rows"]
    partitions = question.get("partition_by") or None
    for number in range(files):
        deltalake.write_deltalake(
            table, rows_of(number * rows, (number + 1) * rows), mode="append", partition_by=partitions,
        )
    return {"files": len(deltalake.DeltaTable(table).file_uris())}


def int96_rows(number, rows):
    """Times that 64 bits of nanoseconds cannot hold are among them."""
    utc = datetime.timezone.utc
    times = [
        datetime.datetime(1500 + n * 7 % 1500, 1 + n % 12, 1 + n % 28, n % 24, n % 60, n % 59, n, tzinfo=utc)
        for n in range(number * rows, (number + 1) * rows)
    ]
    return pa.table({
        "id": pa.array(range(number * rows, (number + 1) * rows), pa.int64()),
        "at": pa.array([None if n % 10 == 3 else at for n, at in enumerate(times)], pa.timestamp("us", "UTC")),
    })


def int96(question):
    table, files, rows = question["table"], question["files"], question["rows"]
    deltalake.DeltaTable.create(table, int96_rows(0, 1).schema)
    with open(f"{table}/_delta_log/{1:020}.json", "w") as entry:
        for number in range(files):
            path = f"{number}.parquet"
            pq.write_table(int96_rows(number, rows), f"{table}/{path}", use_deprecated_int96_timestamps=True)
            physical = pq.ParquetFile(f"{table}/{path}").schema.column(1).physical_type
            assert physical == "INT96", physical
            add = {"path": path, "partitionValues": {}, "size": os.path.getsize(f"{table}/{path}"),
                   "modificationTime": 0, "dataChange": True, "stats": json.dumps({"numRecords": rows})}
            entry.write(json.dumps({"add": add}) + "\n")
    return {}


def int96_is(question):
    expected = pa.concat_tables(int96_rows(number, question["rows"]) for number in range(question["files"]))
    found, types = [], set()
    for _, path in paths(question["table"]):
        types.add(pq.ParquetFile(path).schema.column(1).physical_type)
        found.append(pq.ParquetFile(path).read())
    found = pa.concat_tables(found).sort_by("id").cast(expected.schema)
    wrong = [pair for pair in zip(found.to_pylist(), expected.to_pylist()) if pair[0] != pair[1]]
    return {"rows": len(found), "types": sorted(types), "wrong": wrong[:3],
            "ok": found.equals(expected) and types == {"INT64"}}


def append(question):
    deltalake.write_deltalake(question["table"], rows_of(question["from"], question["to"]), mode="append")
    return {}


def overwrite(question):
    rows = deltalake.DeltaTable(question["table"], version=question["with"]).to_pyarrow_table()
    deltalake.write_deltalake(question["table"], rows, mode="overwrite")
    return {}


def delete(question):
    return deltalake.DeltaTable(question["table"]).delete(question["where"])


def text(batches, names):
    arrow = pa.Table.from_batches(batches) if isinstance(batches, list) else batches
    return pa.table({name: canonical.text(arrow.column(name)) for name in names})


def load(table, version, reader="deltalake"):
    delta = deltalake.DeltaTable(table, version=version)
    names = sorted(field.name for field in delta.schema().fields)
    if reader == "polars":
        return text(pl.read_delta(table, version=version).to_arrow(), names), names
    query = deltalake.QueryBuilder().register("lake", delta)
    batches = [pa.record_batch(batch) for batch in query.execute("select * from lake")]
    return text(batches, names), names


def same(question):
    table, versions = question["table"], (question["before"], question["after"])
    db = duckdb.connect()
    before, names = load(table, versions[0])
    found = {"rows": before.num_rows}
    for reader in ("deltalake", "polars"):
        after, after_names = load(table, versions[1], reader)
        assert names == after_names, (names, after_names)
        for key, sql in (("missing", "before except all select * from after"),
                         ("surplus", "after except all select * from before")):
            count = db.execute(f"select count(*) from (select * from {sql})").fetchone()[0]
            found[key] = found.get(key, 0) + count
    found["ok"] = found["missing"] == found["surplus"] == 0 and found["rows"] > 0
    return found


def newest(question):
    before, names = load(question["table"], question["before"])
    after, _ = load(question["table"], question["after"])
    key, by = ", ".join(question["key"]), question["by"]
    db = duckdb.connect()
    db.register("before", before)
    db.register("after", after)
    db.execute(f"create table expected as select {key}, max({by}::bigint)::varchar as v from before group by {key}")
    db.execute(f"create table got as select {key}, {by} as v from after")
    ask = lambda sql: db.execute(f"select count(*) from ({sql})").fetchone()[0]  # noqa: E731
    wrong = ask("(from expected except all from got) union all (from got except all from expected)")
    invented = ask("from after except all from before")
    return {"rows": after.num_rows, "wrong": wrong, "invented": invented, "ok": wrong == invented == 0}


def paths(table):
    delta = deltalake.DeltaTable(table)
    actions = pa.table(delta.get_add_actions(flatten=True)).to_pylist()
    columns = delta.metadata().partition_columns
    for action in actions:
        partition = tuple(str(action.get(f"partition.{column}")) for column in columns)
        # The log's paths are URL-encoded.
        import urllib.parse
        path = action["path"]
        for candidate in (path, urllib.parse.unquote(path)):
            if os.path.exists(os.path.join(table, candidate)):
                path = os.path.join(table, candidate)
                break
        yield partition, path


def order(question):
    """By Arrow's own comparison; NULLs last upwards, first downwards."""
    spans, wrong = {}, []
    by = [column.split() for column in question["by"]]
    for partition, path in paths(question["table"]):
        rows = pq.ParquetFile(path).read(columns=[column[0] for column in by])
        keys = list(zip(*(key(rows.column(column[0]), len(column) > 1) for column in by)))
        if any(a > b for a, b in zip(keys, keys[1:])):
            wrong.append(f"{path} is not sorted")
        spans.setdefault(partition, []).append((keys[0], keys[-1], path))
    for own in spans.values():
        own.sort(key=lambda span: span[:2])
        wrong += [f"{a[2]} reaches into {b[2]}" for a, b in zip(own, own[1:]) if a[1] > b[0]]
    return {"wrong": wrong, "files": sum(map(len, spans.values())), "ok": not wrong}


class Down:
    def __init__(self, value):
        self.value = value

    def __lt__(self, other):
        return other.value < self.value

    def __gt__(self, other):
        return other.value > self.value

    def __eq__(self, other):
        return self.value == other.value


def key(column, descending):
    forms = [(value is None, 0 if value is None else value) for value in column.to_pylist()]
    return [Down(form) for form in forms] if descending else forms


def files(question):
    partitions = {}
    for partition, _ in paths(question["table"]):
        name = "/".join(partition)
        partitions[name] = partitions.get(name, 0) + 1
    delta = deltalake.DeltaTable(question["table"])
    return {"files": sum(partitions.values()), "partitions": partitions, "version": delta.version(),
            "columns": delta.metadata().partition_columns}


def quarters(question):
    """Of a Z-order: how many files a box of a sixteenth of the points is in."""
    hits, all_files = 0, list(paths(question["table"]))
    x, y = question["by"]
    tables = [pq.ParquetFile(path).read(columns=[x, y]) for _, path in all_files]
    xs = sorted(v for t in tables for v in t.column(x).to_pylist())
    ys = sorted(v for t in tables for v in t.column(y).to_pylist())
    box = [(v[len(v) * 3 // 8], v[len(v) * 5 // 8]) for v in (xs, ys)]
    for t in tables:
        low = [min(t.column(c).to_pylist()) for c in (x, y)]
        high = [max(t.column(c).to_pylist()) for c in (x, y)]
        hits += all(l <= b[1] and h >= b[0] for l, h, b in zip(low, high, box))
    return {"hits": hits, "files": len(tables), "ok": True}


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    answer = globals()[asked["do"]](asked)
    print(json.dumps(answer, default=str), flush=True)
    # Threads of readers may outlive the interpreter.
    os._exit(0 if answer.get("ok", True) else 1)
