"""The S3 server of a bench, and whether a place holds what it should.

The server is `pipelines/examples/s3_server.rs`, the tests' own: in memory, on this
machine. It answers questions on its standard input, so that what it holds and when it
came is known without a client of any contender.
"""

import hashlib
import json
import os
import pathlib
import shlex
import shutil
import subprocess

GIB = 1 << 30
# What other programs of the machine may need beside a bench.
SPARE = 2 * GIB


class Server:
    """An S3 server that lives as long as the context."""

    def __init__(self, program, *options):
        self.command = [*shlex.split(str(program)), *map(str, options)]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        told = json.loads(self.process.stdout.readline())
        self.endpoint, self.access, self.secret = told["endpoint"], told["access_key_id"], told["secret_access_key"]
        return self

    def __exit__(self, *_):
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def ask(self, question):
        try:
            self.process.stdin.write(question + "\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline())
        except (BrokenPipeError, ValueError):
            raise SystemExit(f"the S3 server has ended during the bench, with {self.process.wait(10)}") from None

    def objects(self, prefix):
        """`{key without prefix: (bytes, since when)}`; what is `object-sync`'s own is left out."""
        found = {key[len(prefix):]: (size, since) for key, size, since in self.ask(f"list {prefix}")}
        return {key: told for key, told in found.items() if not key.startswith("_highwater/")}

    def forget(self, prefix):
        self.ask(f"forget {prefix}")

    def cpu(self):
        """Seconds of CPU so far."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def environment(first, second=None):
    """With which every contender runs: the target is `second` where there are two."""
    target = second or first
    return {
        **{name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"},
        "AWS_ACCESS_KEY_ID": target.access, "AWS_SECRET_ACCESS_KEY": target.secret,
        "AWS_REGION": "us-east-1", "AWS_ENDPOINT": target.endpoint, "AWS_ALLOW_HTTP": "true",
        "SRC_ENDPOINT": first.endpoint, "SRC_ACCESS_KEY_ID": first.access, "SRC_SECRET_ACCESS_KEY": first.secret,
        "SRC_ALLOW_HTTP": "true", "SRC_REGION": "us-east-1",
    }


def make(folder, sizes):
    """One file for each size, ten to a folder in turn; no two begin alike."""
    block = os.urandom(1 << 20)
    folders = max(1, min(50, len(sizes) // 10))
    for number, size in enumerate(sizes):
        place = folder / f"d{number // 10 % folders:02}"
        place.mkdir(parents=True, exist_ok=True)
        at = number * 4099 % len(block)
        with open(place / f"o{number:06}", "wb") as file:
            file.write(block[at:at + size])
            for left in range(size - min(size, len(block) - at), 0, -len(block)):
                file.write(block[:left])


def files(folder):
    """`{path below: (bytes, since when)}`: the moment at which a file got its name."""
    found = {}
    for at, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "_highwater"]
        for name in names:
            path = os.path.join(at, name)
            told = os.stat(path)
            found[os.path.relpath(path, folder)] = (told.st_size, told.st_ctime)
    return found


def empty(folder):
    """Frees the space of all files and keeps the files. Removed ones would be paid for by
    the next contender: ext4 goes out of its way not to use their inodes again so soon."""
    for at, _, names in os.walk(folder):
        for name in names:
            os.truncate(os.path.join(at, name), 0)


def md5(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def check(folder, found, content_of, most=100, most_bytes=GIB):
    """Fails unless `found` has what the folder has: all names and lengths, and a sample of contents."""
    wanted = files(folder)
    differing = [name for name in wanted.keys() | found.keys()
                 if wanted.get(name, (None,))[0] != found.get(name, (None,))[0]]
    if differing:
        raise RuntimeError(f"{len(differing)} of {len(wanted)} objects are not what they should be: {sorted(differing)[:3]}")
    names, read = sorted(wanted), 0
    for name in names[:: max(1, len(names) // most)]:
        read += wanted[name][0]
        if md5(folder / name) != content_of(name):
            raise RuntimeError(f"{name} has another content")
        if read >= most_bytes:
            break


def check_bucket(folder, server, prefix, **limits):
    check(folder, server.objects(prefix), lambda name: server.ask(f"md5 {prefix}{name}"), **limits)


def check_folder(folder, copy, **limits):
    check(folder, files(copy), lambda name: md5(pathlib.Path(copy) / name), **limits)


def room(home, memory, disk):
    """Ends the bench where so many bytes of memory or disk are not there."""
    told = dict(line.split(":") for line in pathlib.Path("/proc/meminfo").read_text().splitlines())
    for what, wanted, free in (
        ("memory", memory, int(told["MemAvailable"].split()[0]) * 1024), ("disk", disk, shutil.disk_usage(home).free),
    ):
        if wanted + SPARE > free:
            raise SystemExit(f"this needs {wanted / GIB:.1f} GiB of {what} and {SPARE / GIB:.0f} to spare; "
                             f"there are {free / GIB:.1f}: ask for fewer or smaller objects")
