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
import os
import sys
import tempfile

import duckdb

import files
import lake_side
import source_side

SAMPLE = 5


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


class Side:
    """One side's rows: a hash of each, and a way to read them again for a sample."""

    def __init__(self, db, name, columns, read):
        self.db, self.name, self.columns, self.read = db, name, columns, read
        self.hash = f"hash({', '.join(map(quoted, columns))})"
        batches = read()
        db.execute(f"create or replace table {name} as select {self.hash} as row_hash from batches")
        self.rows = db.execute(f"select count(*) from {name}").fetchone()[0]

    def minus(self, other):
        """How many rows are not in `other`, counted as multisets, and some of them."""
        left = f"select row_hash from {self.name} except all select row_hash from {other.name}"
        count = self.db.execute(f"select count(*) from ({left})").fetchone()[0]
        if not count:
            return 0, []
        batches = self.read()
        sample = self.db.execute(f"select * from batches where {self.hash} in ({left}) limit {SAMPLE}").fetchall()
        assert batches is not None
        return count, [dict(zip(self.columns, row)) for row in sample]


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
        source = Side(
            db,
            "source",
            names,
            lambda: source_side.read(question["source"], question["table"], question["where"], schema, metadata, folder),
        )
        found["rows"] = source.rows
        for reader in lake_side.READERS:
            lake = Side(db, "lake", names, lambda reader=reader: lake_side.read(reader, table, question, schema))
            missing, missing_rows = source.minus(lake)
            extra, extra_rows = lake.minus(source)
            found["readers"][reader] = {
                "rows_in_lake": lake.rows,
                "missing": missing,
                "missing_rows": missing_rows,
                "extra": extra,
                "extra_rows": extra_rows,
            }
            agree = agree and lake.rows == source.rows and not missing and not extra
        db.close()
    found["files"] = files.check(question["lake"], question["store"])
    return agree and not found["files"]["damaged"], found


if __name__ == "__main__":
    agree, found = compare(json.loads(sys.argv[1]))
    print(json.dumps(found, default=str), flush=True)
    # Not by way of the interpreter's end: threads of the readers may outlive it.
    os._exit(0 if agree else 1)
