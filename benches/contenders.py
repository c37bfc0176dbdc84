"""Who exports the bench table, and by which commands."""

import dataclasses
import pathlib

from server import free_port

QUERY = "select * from public.orders"

ADBC = """
import sys, adbc_driver_postgresql.dbapi as adbc, pyarrow.parquet as pq
with adbc.connect(sys.argv[1]) as db, db.cursor() as cursor:
    cursor.execute("select * from public.orders")
    reader = cursor.fetch_record_batch()
    with pq.ParquetWriter(sys.argv[2] + "/orders.parquet", reader.schema, compression="zstd", compression_level=1) as out:
        for batch in reader:
            out.write_batch(batch)
"""

CONNECTORX = """
import sys, connectorx as cx, pyarrow.parquet as pq
query = ("select id, customer_id, status, email, note, amount::float8 as amount, qty, price, paid, "
         "created_at, updated_at, ship_date, uid::text as uid, attrs::text as attrs from public.orders")
table = cx.read_sql(sys.argv[1].replace("postgres://", "postgresql://"), query,
                    return_type="arrow", partition_on="id", partition_num=2)
pq.write_table(table, sys.argv[2] + "/orders.parquet", compression="zstd", compression_level=1)
"""


@dataclasses.dataclass
class Contender:
    """Processes that run at once; done when all have ended."""

    name: str
    out: pathlib.Path
    commands: list


def contenders(postgres, folder, python, target, s3):
    drain = lambda where="": [  # noqa: E731
        postgres.bin / "psql", "-X", "-q", postgres.url,
        "-c", f"copy ({QUERY}{where}) to stdout (format binary)", "-o", "/dev/null",
    ]
    field = [Contender("psql drain, 1 connection", folder / "drain", [drain()])]
    half = Halves(postgres, drain)
    field.append(Contender("psql drain, 2 connections", folder / "drain2", half))
    ours = target / "release/table-backup"
    if ours.exists():
        field += our_own(ours, postgres, folder, s3)
    for name, script in (("adbc + pyarrow", ADBC), ("connectorx (2 partitions) + pyarrow", CONNECTORX)):
        out = folder / name.split()[0]
        field.append(Contender(name, out, [[python, "-c", script, postgres.url, str(out)]]))
    rivet = target / "peers/bin/rivet"
    if rivet.exists():
        field += rivets(rivet, postgres, folder)
    return field


class Halves(list):
    """Two drains by halves of the table's pages, which are known only when it exists."""

    def __init__(self, postgres, drain):
        self.postgres, self.drain = postgres, drain

    def __iter__(self):
        middle = self.postgres.pages() // 2
        yield self.drain(f" where ctid < '({middle},0)'::tid")
        yield self.drain(f" where ctid >= '({middle},0)'::tid")


def our_own(program, postgres, folder, s3):
    def contender(name, lake, more="", log="normal"):
        out = folder / name.replace(" ", "-").replace(",", "")
        config = folder / f"{out.name}.toml"
        config.write_text(
            f'source = "{postgres.url}"\nlake = "{lake or f"file:{out}"}"\n'
            f'workers = 2\nmemory = "256MiB"\nfiles.compression = "zstd(1)"\n{more}'
        )
        return Contender(name, out, [[program, "run", config, "--log", log, "--progress", "never"]])

    field = [contender("table-backup, local", None)]
    if s3:
        options = "".join(f'store.{key} = "{s3[key]}"\n' for key in ("endpoint", "access_key_id", "secret_access_key"))
        # Each run replaces the table of the run before; the server keeps all in memory.
        more = options + 'store.region = "us-east-1"\nstore.allow_http = "true"\n'
        field.append(contender("table-backup, S3 loopback", f"s3://{s3['bucket']}/bench", more))
    field += in_processes(program, postgres, folder)
    field.append(contender("table-backup, silent", None, log="silent"))
    field.append(contender("table-backup, verbose", None, log="verbose"))
    return field


def in_processes(program, postgres, folder):
    """The same load by two threads: of one process, and of two that share its memory."""
    for processes, workers, memory in ((1, 2, "512MiB"), (2, 1, "256MiB")):
        out = folder / f"{processes}x{workers}"
        config = folder / f"{out.name}.toml"
        config.write_text(
            f'source = "{postgres.url}"\nlake = "file:{out}"\n'
            f'workers = {workers}\nmemory = "{memory}"\nfiles.compression = "zstd(1)"\n'
        )
        command = [program, "run", config, "--log", "normal", "--progress", "never"]
        port = str(free_port())
        together = lambda n: ["--processes", str(processes), "--process", str(n), "--base-port", port]  # noqa: B023, E731
        commands = [command] if processes == 1 else [command + together(n) for n in range(processes)]
        yield Contender(f"table-backup, {processes} x {workers} workers", out, commands)


def rivets(rivet, postgres, folder):
    """As it comes, and with two readers by key ranges."""
    for name, mode in (
        ("rivet, full", "mode: full"),
        ("rivet, chunked, parallel 2", "mode: chunked\n    chunk_column: id\n    chunk_size: 250000\n    parallel: 2"),
    ):
        out = folder / name.replace(", ", "-").replace(" ", "-")
        config = folder / f"{out.name}.yaml"
        config.write_text(
            f"source:\n  type: postgres\n  url: {postgres.url.replace('postgres://', 'postgresql://')}\n"
            "exports:\n"
            f"  - name: orders\n    query: {QUERY}\n    {mode}\n"
            "    format: parquet\n    compression: zstd\n    compression_level: 1\n"
            f"    destination:\n      type: local\n      path: {out}\n"
        )
        yield Contender(name, out, [[rivet, "run", "--config", config]])
