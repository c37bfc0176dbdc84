"""The lake's rows, by readers that we did not write."""

import json

import deltalake
import polars as pl
import pyarrow as pa

import canonical

READERS = ("deltalake", "polars")


def options(store):
    """`object_store`'s names as `deltalake` and `polars` both know them."""
    return {f"aws_{name}" if name != "allow_http" else "aws_allow_http": value for name, value in store.items()}


def address(lake):
    return lake.removeprefix("file:")


def open_table(lake, store):
    return deltalake.DeltaTable(address(lake), storage_options=options(store))


def schema(table):
    """The Arrow schema, and each column's Delta metadata."""
    arrow = pa.schema(table.schema().to_arrow())
    fields = json.loads(table.schema().to_json())["fields"]
    return arrow, {field["name"]: field.get("metadata", {}) for field in fields}


def read(reader, table, question, schema):
    """The rows in text form, as a stream of record batches."""
    batches = (by_deltalake if reader == "deltalake" else by_polars)(table, question)
    names = schema.names
    text = pa.schema([(name, pa.string()) for name in names])

    def forms():
        for batch in batches:
            if batch.num_rows:
                yield pa.record_batch([canonical.text(batch.column(name)) for name in names], schema=text)

    return pa.RecordBatchReader.from_batches(text, forms())


def by_deltalake(table, question):
    """The Arrow dataset where pyarrow knows the table's features, else DataFusion."""
    try:
        return table.to_pyarrow_dataset().to_batches(batch_size=65536)
    except deltalake.exceptions.DeltaProtocolError:
        query = deltalake.QueryBuilder().register("lake", table)
        return (pa.record_batch(batch) for batch in query.execute("select * from lake"))


def by_polars(table, question):
    frame = pl.read_delta(address(question["lake"]), storage_options=options(question["store"]))
    return frame.to_arrow().to_batches(max_chunksize=65536)
