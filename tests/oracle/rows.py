"""ROWS=: do a source table and its lake table hold the same rows?

Usage: rows.py '{"source": URL, "table": NAME, "where": SQL or null,
                 "columns": [NAME, ...] or null for all, "derived": COUNT,
                 "lake": URL of the table, "store": {option: value}}'

`derived` is the number of columns that the lake has and the source has not.

Reads the source by its plain driver and the lake by `deltalake` and by
`polars`, brings both into the same exact text form (`canonical.py`), and takes
EXCEPT ALL both ways. Then checks every file that the log names against its
recorded size and SHA-256 (`files.py`). Prints what it found as one line of
JSON; exits 0 if all agree, 1 if not.
"""

import json
import sys
import tempfile

import duckdb

import files
import lake_side
import source_side

SAMPLE = 5


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def store(db, side, names, batches):
    """Keeps one side's rows as text, with a hash of each row."""
    columns = ", ".join(quoted(name) for name in names)
    db.execute(f"create or replace table {side} as select {columns}, hash({columns}) as row_hash from batches")
    return db.execute(f"select count(*) from {side}").fetchone()[0]


def differences(db, names, left, right):
    """How many rows of `left` are not in `right`, counted as multisets, and some of them."""
    count = db.execute(
        f"select count(*) from (select row_hash from {left} except all select row_hash from {right})"
    ).fetchone()[0]
    if not count:
        return 0, []
    columns = ", ".join(quoted(name) for name in names)
    sample = db.execute(
        f"select {columns} from {left} where row_hash in "
        f"(select row_hash from {left} except all select row_hash from {right}) limit {SAMPLE}"
    ).fetchall()
    return count, [dict(zip(names, row)) for row in sample]


def compare(question):
    table = lake_side.open_table(question["lake"], question["store"])
    schema, metadata = lake_side.schema(table)
    names = question["columns"] or source_side.columns(question["source"], question["table"])
    found = {"table": question["table"], "version": table.version(), "readers": {}}
    lost = [name for name in names if name not in schema.names]
    if lost or len(schema.names) != len(names) + question["derived"]:
        found["columns"] = {"source": names, "lake": schema.names}
        return False, found
    schema = schema.empty_table().select(names).schema
    agree = True
    with tempfile.TemporaryDirectory() as folder:
        db = duckdb.connect(f"{folder}/rows.duckdb")
        batches = source_side.read(question["source"], question["table"], question["where"], schema, metadata, folder)
        source_rows = store(db, "source", names, batches)
        found["rows"] = source_rows
        for reader in lake_side.READERS:
            batches = lake_side.read(reader, table, question, schema, metadata)
            lake_rows = store(db, "lake", names, batches)
            missing, missing_sample = differences(db, names, "source", "lake")
            extra, extra_sample = differences(db, names, "lake", "source")
            found["readers"][reader] = {
                "rows_in_lake": lake_rows,
                "missing": missing,
                "missing_rows": missing_sample,
                "extra": extra,
                "extra_rows": extra_sample,
            }
            agree = agree and lake_rows == source_rows and not missing and not extra
        db.close()
    found["files"] = files.check(question["lake"], question["store"])
    return agree and not found["files"]["damaged"], found


if __name__ == "__main__":
    agree, found = compare(json.loads(sys.argv[1]))
    print(json.dumps(found, default=str))
    sys.exit(0 if agree else 1)
