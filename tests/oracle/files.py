"""The files of a Delta table against what its log says of them.

Reads the log itself: the readers of the rows check neither digests nor
leftovers. Orphans (data files that no entry names) are counted, not failed:
only garbage collection may remove them.
"""

import hashlib
import json
from urllib.parse import unquote

from pyarrow import fs

DIGEST = "highwater.sha256"


def open_store(lake, store):
    if lake.startswith("file:"):
        return fs.LocalFileSystem(), lake.removeprefix("file:").rstrip("/")
    scheme, _, endpoint = store["endpoint"].partition("://")
    s3 = fs.S3FileSystem(
        endpoint_override=endpoint,
        scheme=scheme,
        region=store["region"],
        access_key=store["access_key_id"],
        secret_key=store["secret_access_key"],
    )
    return s3, lake.removeprefix("s3://").rstrip("/")


def content(files, path):
    with files.open_input_stream(path) as stream:
        return stream.read()


def check(lake, store):
    files, root = open_store(lake, store)
    present = {
        info.path[len(root) + 1 :]: info.size
        for info in files.get_file_info(fs.FileSelector(root, recursive=True))
        if info.type == fs.FileType.File
    }
    live, named, entries = {}, set(), 0
    for path in sorted(p for p in present if p.startswith("_delta_log/") and p.endswith(".json")):
        entries += 1
        for line in content(files, f"{root}/{path}").splitlines():
            action = json.loads(line)
            if add := action.get("add"):
                live[unquote(add["path"])] = add
                named.add(unquote(add["path"]))
            elif remove := action.get("remove"):
                live.pop(unquote(remove["path"]), None)
    damaged = [problem for path, add in live.items() if (problem := damage(files, root, path, add, present))]
    data = {p for p in present if p.endswith(".parquet") and not p.startswith("_")}
    return {
        "entries": entries,
        "live": len(live),
        "bytes": sum(add["size"] for add in live.values()),
        "orphans": len(data - named),
        "damaged": damaged[:20],
    }


def damage(files, root, path, add, present):
    if path not in present:
        return f"{path} is missing"
    if present[path] != add["size"]:
        return f"{path} has {present[path]} bytes, the log says {add['size']}"
    recorded = (add.get("tags") or {}).get(DIGEST)
    if recorded is None:
        return f"{path} has no {DIGEST} in the log"
    digest = hashlib.sha256(content(files, f"{root}/{path}")).hexdigest()
    return None if digest == recorded else f"{path} does not match its SHA-256"
