"""What a packed table holds, as a reader sees it that we did not write.

Usage: packed.py '{"table": FOLDER}'; prints one line of JSON: the objects (size and
SHA-256 of the content, by key), files and version. Exits 0 if each row is as it says
and files hold keys in order, none reaching into another.
"""

import hashlib
import json
import os
import sys
import urllib.parse

import deltalake
import pyarrow.parquet as pq


def main():
    question = json.loads(sys.argv[1])
    table = deltalake.DeltaTable(question["table"])
    wrong, objects, spans = [], {}, []
    paths = [urllib.parse.unquote(path.replace("file://", "")) for path in table.file_uris()]
    for path in paths:
        rows = pq.ParquetFile(path).read().to_pylist()
        keys = [row["key"].encode() for row in rows]
        if keys != sorted(keys):
            wrong.append(f"{path} is not in the order of keys")
        if keys:
            spans.append((keys[0], keys[-1]))
    spans.sort()
    wrong += [f"{a} reaches into {b}" for a, b in zip(spans, spans[1:]) if a[1] >= b[0]]
    seen = deltalake.QueryBuilder().register("lake", table).execute("select * from lake")
    for batch in seen:
        import pyarrow as pa
        for row in pa.record_batch(batch).to_pylist():
            digest = hashlib.sha256(row["content"]).hexdigest()
            if row["size"] != len(row["content"]) or row["sha256"] != digest:
                wrong.append(f"{row['key']!r} is not what it says")
            if row["key"] in objects:
                wrong.append(f"{row['key']!r} is there twice")
            objects[row["key"]] = [row["size"], digest]
    print(json.dumps({"objects": objects, "files": len(paths), "version": table.version(), "wrong": wrong[:10]}))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
