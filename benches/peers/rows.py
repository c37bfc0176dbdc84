"""A copy against its source: `rows.py URL delta|sqlite|parquet PATH`; prints JSON.

`lost`: rows that the copy lacks. `undeleted`: rows that the source no longer
has. `stale`: rows with other contents. `doubled`: rows beyond the first with the
same key. `except_all`: what `EXCEPT ALL` leaves, in both directions together.
`parquet` is for an exporter that only appends: of each key the newest row
counts, and `doubled` says nothing.
"""

import json
import pathlib
import sqlite3
import sys

import deltalake
import duckdb
import psycopg
import pyarrow as pa

COLUMNS = "id, qty, status, epoch_us(updated_at) as stamp"
NEWEST = "qualify row_number() over (partition by id order by updated_at desc) = 1"


def arrow(rows, stamp=pa.int64()):
    columns, types = list(zip(*rows, strict=True)), (pa.int64(), pa.int32(), pa.string(), stamp)
    return pa.table([pa.array(c, t) for c, t in zip(columns, types, strict=True)], names=["id", "qty", "status", "stamp"])


def source(url):
    query = "select id, qty, status, (extract(epoch from updated_at) * 1000000)::bigint from public.orders"
    with psycopg.connect(url) as db:
        return arrow(db.execute(query).fetchall())


def copy_of(db, kind, path):
    if kind == "sqlite":
        with sqlite3.connect(path) as copy:
            query = "select id, qty, status, updated_at from orders"
            db.register("copied", arrow(copy.execute(query).fetchall(), pa.string()))
        return "select id, qty, status, epoch_us(stamp::timestamp) as stamp from copied"
    if kind == "delta":
        # A table may hold several logs, that of its loads among them.
        logs = [log for log in pathlib.Path(path).rglob("_delta_log") if "orders" in log.parent.name]
        files = [uri.removeprefix("file://") for uri in deltalake.DeltaTable(logs[0].parent).file_uris()]
    else:
        files = [str(file) for file in pathlib.Path(path).rglob("*.parquet")]
    return f"select {COLUMNS} from read_parquet({files}) {NEWEST if kind == 'parquet' else ''}"


def main():
    url, kind, path = sys.argv[1:4]
    db = duckdb.connect()
    db.execute("set timezone = 'UTC'")
    db.register("source_rows", source(url))
    db.execute("create table s as select * from source_rows")
    db.execute(f"create table c as {copy_of(db, kind, path)}")
    one = lambda query: db.execute(query).fetchone()[0]  # noqa: E731
    answer = {
        "rows": one("select count(*) from s"),
        "lost": one("select count(*) from s where id not in (select id from c)"),
        "undeleted": one("select count(distinct id) from c where id not in (select id from s)"),
        "stale": one(
            "select count(*) from s where id in (select id from c) and not exists "
            "(select 1 from c where c.id = s.id and c.qty = s.qty and c.status = s.status and c.stamp = s.stamp)"
        ),
        "doubled": one("select count(*) - count(distinct id) from c"),
        "except_all": one(
            "select (select count(*) from (select * from s except all select * from c)) + "
            "(select count(*) from (select * from c except all select * from s))"
        ),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
