"""What one process took, and the Python environments of the benches."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time


def measure(command, log, report=None, env=None):
    """Wall and CPU seconds, peak RSS in MiB, and bytes read, of one process.

    The bytes are read from `/proc` while the process has ended but is not yet
    waited for; the account of its threads is in them, that of its children not.
    """
    start = time.perf_counter()
    with open(log, "ab") as said:
        child = subprocess.Popen(command, stdout=said, stderr=said, env=env)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        wall = time.perf_counter() - start
        io = dict(line.split(": ") for line in pathlib.Path(f"/proc/{child.pid}/io").read_text().splitlines())
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    used = {
        "wall": wall,
        "cpu": usage.ru_utime + usage.ru_stime,
        "rss": usage.ru_maxrss / 1024,
        "read": int(io["rchar"]),
        "exit": child.returncode,
        "table": {},
    }
    if child.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {child.returncode}; see {log}")
    if report and report.exists():
        told = json.loads(report.read_text())["tables"][0]
        keys = ("outcome", "method", "because", "inserted", "updated", "deleted", "held_by", "seconds")
        used["table"] = {key: told[key] for key in keys if told.get(key)}
    return used


def python_with(target, name, packages):
    """A Python in `target/bench-py` that has these packages."""
    home = target / "bench-py" / name
    stamp, wanted = home / ".stamp", "\n".join(packages)
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        subprocess.run([home / "bin/pip", "install", "-q", *packages], check=True)
        stamp.write_text(wanted)
    return home / "bin/python"
