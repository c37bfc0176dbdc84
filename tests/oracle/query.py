"""What a query says of tables of the lake.

Usage: query.py '{"tables": [{"name": NAME, "lake": URL, "version": N or null}, ...],
                  "sql": SQL, "store": {option: value}}'

The tables are opened by `deltalake` and queried by `duckdb`. Prints the rows as
one line of JSON: `{"rows": [[...], ...]}`.
"""

import json
import os
import sys

import deltalake
import duckdb

import lake_side


def rows(question):
    db = duckdb.connect()
    options = lake_side.options(question["store"])
    for table in question["tables"]:
        opened = deltalake.DeltaTable(
            lake_side.address(table["lake"]), version=table["version"], storage_options=options
        )
        db.register(table["name"], opened.to_pyarrow_dataset())
    return db.execute(question["sql"]).fetchall()


if __name__ == "__main__":
    print(json.dumps({"rows": rows(json.loads(sys.argv[1]))}, default=str), flush=True)
    # Not by way of the interpreter's end: threads of the readers may outlive it.
    os._exit(0)
