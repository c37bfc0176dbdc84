"""The source's rows, by its plain driver, in the text form of `canonical.py`."""

import os
import sqlite3
import struct
import subprocess
from decimal import Decimal
from datetime import date, datetime, timezone

import psycopg
import pyarrow as pa
import pyarrow.csv as csv

import canonical

EXACT_TYPE = "highwater.source_type"


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def read(source, table, where, schema, metadata, folder):
    """The rows as a stream of record batches of text."""
    if source.startswith("sqlite:"):
        return from_sqlite(source, table, where, schema, metadata)
    return from_postgres(source, table, where, schema, folder)


def columns(source, table):
    """The names of the table's columns, in order."""
    if source.startswith("sqlite:"):
        query, argument = "select name from pragma_table_xinfo(?) where hidden <> 1", table
        return [name for (name,) in open_sqlite(source).execute(query, (argument,))]
    query = "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0 and not attisdropped order by attnum"
    with psycopg.connect(source) as connection:
        return [name for (name,) in connection.execute(query, (relation(table),))]


def relation(table):
    return ".".join(map(quoted, table.split(".", 1)))


def open_sqlite(source):
    return sqlite3.connect(f"file:{source.removeprefix('sqlite:')}?mode=ro", uri=True, check_same_thread=False)


# PostgreSQL: the server makes the text form itself, by its own functions.

SESSION = "set timezone = 'UTC'; set datestyle = 'ISO'; set intervalstyle = 'postgres'; set bytea_output = 'hex';"


def from_postgres(source, table, where, schema, folder):
    columns = ", ".join(f"{sql_form(quoted(field.name), field.type)} as {quoted(field.name)}" for field in schema)
    query = f"select {columns} from {relation(table)}"
    if where:
        query += f" where {where}"
    path = f"{folder}/source.csv"
    psql = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", SESSION]
    subprocess.run([*psql, "-c", f"copy ({query}) to stdout (format csv)", "-o", path, source], check=True)
    return csv_batches(path, schema.names)


def csv_batches(path, names):
    text = pa.schema([(name, pa.string()) for name in names])
    if os.path.getsize(path) == 0:
        return pa.RecordBatchReader.from_batches(text, [])
    reader = csv.open_csv(
        path,
        read_options=csv.ReadOptions(column_names=names, block_size=16 << 20),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        # NULL is nothing at all; an empty string is quoted.
        convert_options=csv.ConvertOptions(
            column_types=text, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    )
    return pa.RecordBatchReader.from_batches(text, reader)


def sql_form(value, kind):
    kind = canonical.plain(kind)
    if canonical.is_list(kind):
        element = sql_form("e", kind.value_type)
        return (
            f"case when {value} is null then null else (select '[' || coalesce(string_agg("
            f"case when e is null then '~' else char_length({element}) || ':' || {element} end, ',' order by o), '')"
            f" || ']' from unnest({value}) with ordinality as u(e, o)) end"
        )
    if pa.types.is_floating(kind):
        send, bits, integer = ("float4send", 32, "int") if pa.types.is_float32(kind) else ("float8send", 64, "bigint")
        nan = f"{value} = 'NaN'"
        return f"case when {nan} then 'NaN' else ('x' || encode({send}({value}), 'hex'))::bit({bits})::{integer}::text end"
    if pa.types.is_decimal(kind):
        return f"trim_scale({value}::numeric)::text"
    if pa.types.is_binary(kind):
        return f"encode({value}, 'hex')"
    if pa.types.is_date(kind):
        return f"({value} - date '1970-01-01')::text"
    if pa.types.is_timestamp(kind):
        return f"(extract(epoch from {value}) * 1000000)::numeric(40, 0)::text"
    if pa.types.is_boolean(kind):
        return f"{value}::text"
    if pa.types.is_integer(kind):
        return f"{value}::bigint::text"
    # What the type's own output function writes, blanks of char(n) included.
    # (`inet` is kept as its cast to text has it, always with the prefix length.)
    return (
        f"case when {value} is null then null when pg_typeof({value}) = 'inet'::regtype"
        f" then {value}::text else format('%s', {value}) end"
    )


# SQLite: values come with their storage class and are brought to the lake's type.


def from_sqlite(source, table, where, schema, metadata):
    connection = open_sqlite(source)
    text = pa.schema([(field.name, pa.string()) for field in schema])
    forms = [sqlite_form(field.type, metadata.get(field.name, {}).get(EXACT_TYPE)) for field in schema]
    literal = [form is literal_form for form in forms]
    columns = ", ".join(
        f"quote({quoted(field.name)})" if as_literal else quoted(field.name)
        for field, as_literal in zip(schema, literal)
    )
    query = f"select {columns} from {quoted(table)}" + (f" where {where}" if where else "")

    def batches():
        cursor = connection.execute(query)
        while rows := cursor.fetchmany(50000):
            columns = zip(*rows)
            yield pa.record_batch(
                [
                    pa.array([None if v is None else form(v) for v in values], pa.string())
                    for form, values in zip(forms, columns)
                ],
                schema=text,
            )

    return pa.RecordBatchReader.from_batches(text, batches())


def sqlite_form(kind, declared):
    kind = canonical.plain(kind)
    if pa.types.is_floating(kind):
        return lambda v: str(struct.unpack("<q", struct.pack("<d", v))[0])
    if pa.types.is_decimal(kind):
        return lambda v: canonical.decimal(Decimal(str(v)))
    if pa.types.is_binary(kind):
        return bytes.hex
    if pa.types.is_boolean(kind):
        return lambda v: {0: "false", 1: "true"}[v]
    if pa.types.is_date(kind):
        return lambda v: str((date.fromisoformat(v) - date(1970, 1, 1)).days)
    if pa.types.is_timestamp(kind):
        return micros
    if declared == "any":
        return literal_form
    return str


def literal_form(value):
    """SQLite's `quote()`, spelled as the lake spells it: lower-case hexadecimal,
    the shortest form of a real."""
    if value == "NULL":
        return None
    if value.startswith("X'"):
        return value.lower()
    if value.startswith("'") or "e+999" in value or not set(value) & set(".e"):
        return value
    return repr(float(value)).replace("e+", "e").replace("e-0", "e-")


def micros(value):
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    since = moment - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return str((since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds)
