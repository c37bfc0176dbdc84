"""A PostgreSQL server for the benches, with the settings a server would have."""

import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time

SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_buffers = '2GB'
max_wal_size = '4GB'
fsync = off
autovacuum = off
"""


def programs():
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        raise SystemExit("no PostgreSQL server here: `scripts/test` installs one")
    return found[-1].parent


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class PostgreSQL:
    """Runs while the context lasts; everything goes with it."""

    def __init__(self, target):
        self.bin = programs()
        self.port = free_port()
        self.url = f"postgres://postgres@127.0.0.1:{self.port}/postgres"
        self.target = target

    def owner(self):
        """PostgreSQL refuses root."""
        return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.getuid() == 0 else []

    def __enter__(self):
        # The system's folder: root's own is closed to the server's user.
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="highwater-bench-"))
        if os.getuid() == 0:
            entry = pwd.getpwnam("postgres")
            os.chown(self.home, entry.pw_uid, entry.pw_gid)
        data = self.home / "data"
        initdb = [self.bin / "initdb", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "-N", "-D", data]
        subprocess.run([*self.owner(), *initdb], check=True, stdout=subprocess.DEVNULL)
        with open(data / "postgresql.conf", "a") as settings:
            settings.write(SETTINGS)
        self.process = subprocess.Popen(
            # Ends with this program, however that ends.
            [*(self.owner() or ["setpriv"]), "--pdeathsig=QUIT", self.bin / "postgres", "-D", data, "-p", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(300):
            if self.psql("-c", "select 1", check=False).returncode == 0:
                return self
            time.sleep(0.1)
        raise SystemExit("PostgreSQL did not start")

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)

    def psql(self, *arguments, check=True):
        command = [self.bin / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *arguments, self.url]
        return subprocess.run(command, check=check, capture_output=True, text=True)

    def bench_table(self, script, rows):
        self.psql("-v", f"rows={rows}", "-f", str(script))
        self.psql("-c", "vacuum (freeze, analyze) public.orders")
        self.psql("-c", "checkpoint")

    def pages(self):
        return int(self.psql("-c", "select relpages from pg_class where oid = 'public.orders'::regclass").stdout)
