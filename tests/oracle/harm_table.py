"""Does to a table of chunks what another program might do that compacts it.

Usage: harm_table.py '{"table": FOLDER, "harm": HARM}' writes the rows of the table into
other files, and an entry of the log that says that no row has changed; prints one line of
JSON. The library `deltalake` writes to no table with our features, so that files are
written by `pyarrow`, and the entry as Spark's OPTIMIZE writes it.

reverse  each file from its last row to its first
middle   one file, in which the second and the third document have changed places
overlap  two files in order, the documents dealt out in turns
cut      two files in order, and the middle of one document between them
chunks   one file, of each document the last chunk first: the order of documents stands
"""

import json
import os
import sys
import time
import urllib.parse
import uuid

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq


def of(rows, documents):
    """The rows of these documents, one after the other."""
    keys = rows.column("document").to_pylist()
    return rows.take([at for name in documents for at, key in enumerate(keys) if key == name])


def changed(harm, files):
    rows = pa.concat_tables(files).sort_by([("document", "ascending"), ("chunk", "ascending")])
    names = sorted(set(rows.column("document").to_pylist()), key=str.encode)
    assert len(names) > 3, f"{names} are too few"
    if harm == "reverse":
        return [file.take(list(range(len(file)))[::-1]) for file in files]
    if harm == "middle":
        return [of(rows, [names[0], names[2], names[1], *names[3:]])]
    if harm == "overlap":
        return [of(rows, names[0::2]), of(rows, names[1::2])]
    if harm == "cut":
        keys = rows.column("document").to_pylist()
        at = next(at for at in range(len(keys) // 2, len(keys)) if keys[at] == keys[at - 1])
        return [rows.slice(0, at), rows.slice(at)]
    if harm == "chunks":
        return [rows.sort_by([("document", "ascending"), ("chunk", "descending")])]
    raise ValueError(harm)


def main():
    question = json.loads(sys.argv[1])
    folder, now = question["table"], int(time.time() * 1000)
    table = deltalake.DeltaTable(folder)
    olds = [action["path"] for action in pa.table(table.get_add_actions(flatten=True)).to_pylist()]
    there = [os.path.join(folder, urllib.parse.unquote(path)) for path in olds]
    news = changed(question["harm"], [pq.ParquetFile(path).read() for path in there])
    lines = [{"commitInfo": {"timestamp": now, "operation": "OPTIMIZE", "operationParameters": {}}}]
    for path, file in zip(olds, there):
        lines.append({"remove": {"path": path, "deletionTimestamp": now, "dataChange": False,
                                 "extendedFileMetadata": True, "partitionValues": {}, "size": os.path.getsize(file)}})
    for rows in news:
        name = f"part-{uuid.uuid4()}.parquet"
        pq.write_table(rows, os.path.join(folder, name))
        stats = {"numRecords": len(rows), "nullCount": {"id": rows.column("id").null_count}}
        lines.append({"add": {"path": name, "partitionValues": {}, "size": os.path.getsize(os.path.join(folder, name)),
                              "modificationTime": now, "dataChange": False, "stats": json.dumps(stats)}})
    version = table.version() + 1
    with open(f"{folder}/_delta_log/{version:020}.json", "x") as entry:
        entry.writelines(json.dumps(line) + "\n" for line in lines)
    table = deltalake.DeltaTable(folder)
    print(json.dumps({"version": table.version(), "files": len(table.file_uris())}))


if __name__ == "__main__":
    main()
