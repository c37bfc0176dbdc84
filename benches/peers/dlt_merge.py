"""One sync by dlt: PostgreSQL to a Delta table, merged by key.

    dlt_merge.py URL FOLDER [LAG_SECONDS]

The first sync loads, the next ones take rows at or above the greatest
`updated_at` seen, less LAG_SECONDS where given. The Arrow backend is dlt's
faster one; `upsert` is the one merge strategy it has for Delta.
"""

import os
import pathlib
import sys

os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"

import dlt  # noqa: E402
from dlt.sources.sql_database import sql_table  # noqa: E402


def main():
    url, folder = sys.argv[1].replace("postgres://", "postgresql://"), pathlib.Path(sys.argv[2])
    lag = float(sys.argv[3]) if len(sys.argv) > 3 else 0
    pipeline = dlt.pipeline(
        "orders",
        pipelines_dir=str(folder / "state"),
        destination=dlt.destinations.filesystem(bucket_url=f"file://{folder}"),
        dataset_name="lake",
    )
    orders = sql_table(
        credentials=url,
        schema="public",
        table="orders",
        backend="pyarrow",
        incremental=dlt.sources.incremental("updated_at", lag=lag),
        primary_key="id",
        write_disposition={"disposition": "merge", "strategy": "upsert"},
    )
    print(pipeline.run(orders, table_format="delta"))


if __name__ == "__main__":
    main()
