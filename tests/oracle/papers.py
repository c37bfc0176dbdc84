"""What tables of chunks hold, as a reader sees them that we did not write.

Usage: papers.py '{"table": FOLDER, "other": FOLDER, "chroma": URL, "collection": NAME}'
prints one line of JSON: documents, chunks (hash by id), notes, version, and what is
wrong. `other` is another table that must hold the same chunks and vectors, `chroma` a
server whose collection must, and say the same of them, `endpoint` (with `key` and `model`) one that must make the
same vectors of the texts. Exits 0 if nothing is wrong. Runs in a Python with
`deltalake` and `pyarrow`; the collection is asked for by plain HTTP.
"""

import hashlib
import json
import math
import os
import sys
import urllib.parse
import urllib.request

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq

NEAR = 1e-5


def rows_of(folder):
    table = deltalake.DeltaTable(folder)
    seen = deltalake.QueryBuilder().register("lake", table).execute("select * from lake")
    rows = [row for batch in seen for row in pa.record_batch(batch).to_pylist()]
    return table, rows


def check_files(table, wrong):
    """Files hold documents in order, none reaching into another by more than one of them."""
    spans = []
    for uri in table.file_uris():
        path = urllib.parse.unquote(uri.replace("file://", ""))
        if not os.path.exists(path):
            wrong.append(f"{path} is not there")
            continue
        keys = [row["document"].encode() for row in pq.ParquetFile(path).read(["document"]).to_pylist()]
        if keys != sorted(keys):
            wrong.append(f"{path} is not in the order of documents")
        if keys:
            spans.append((keys[0], keys[-1]))
    spans.sort()
    wrong += [f"{a} reaches into {b}" for a, b in zip(spans, spans[1:]) if a[1] > b[0]]


def check_rows(rows, wrong):
    """Chunks are what they say, vectors have length one, documents are whole."""
    documents, chunks = {}, {}
    for row in rows:
        mine = documents.setdefault(row["document"], [])
        if row["id"] is None:
            if row["text"] is not None or row["vector"] is not None:
                wrong.append(f"{row['document']}: a row without id has content")
            continue
        mine.append(row["chunk"])
        if row["id"] in chunks:
            wrong.append(f"{row['id']} is there twice")
        chunks[row["id"]] = row
        if hashlib.sha256(row["text"].encode()).hexdigest()[:32] != row["hash"]:
            wrong.append(f"{row['document']}: chunk {row['chunk']} has another text than its hash")
        if row["vector"] is None or any(number is None for number in row["vector"]):
            wrong.append(f"{row['document']}: chunk {row['chunk']} has no vector")
        elif abs(math.sqrt(sum(number * number for number in row["vector"])) - 1) > 1e-3:
            wrong.append(f"{row['document']}: chunk {row['chunk']} has a vector of another length")
    for document, numbers in documents.items():
        if sorted(numbers) != list(range(len(numbers))):
            wrong.append(f"{document}: its chunks are {sorted(numbers)}")
    return documents, chunks


def far(a, b):
    return len(a) != len(b) or any(abs(x - y) > NEAR for x, y in zip(a, b))


def compare(what, ours, theirs, wrong):
    """`theirs`: vector and text by id."""
    missing, extra = ours.keys() - theirs.keys(), theirs.keys() - ours.keys()
    if missing or extra:
        wrong.append(f"{what}: {len(missing)} missing, {len(extra)} extra: {sorted(missing | extra)[:3]}")
    for key in ours.keys() & theirs.keys():
        vector, text = theirs[key]
        if text != ours[key]["text"]:
            wrong.append(f"{what}: {key} has another text")
        if far(ours[key]["vector"], vector):
            wrong.append(f"{what}: {key} has another vector")


def told(row):
    """What a point says of its chunk beside the text; what the lake does not know is not there."""
    names = ("document", "heading", "title", "date", "chunk", "page", "start", "tokens")
    said = {name: row[name] for name in names}
    for name in ("authors", "categories"):
        texts = row[name]
        said[name] = None if texts is None else "; ".join(text for text in texts if text is not None)
    return {name: value for name, value in said.items() if value is not None}


def compare_told(ours, theirs, wrong):
    """`theirs`: metadata by id."""
    for key in ours.keys() & theirs.keys():
        expected = told(ours[key])
        if theirs[key] != expected:
            wrong.append(f"the collection: {key} says {theirs[key]} and not {expected}")


def collection(url, name):
    """Vector and text by id, and metadata by id."""
    base = f"{url}/api/v2/tenants/default_tenant/databases/default_database/collections"

    def ask(path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{base}/{path}", data, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    found = ask(urllib.parse.quote(name))
    points, said, offset, page = {}, {}, 0, 300
    while True:
        want = {"limit": page, "offset": offset, "include": ["embeddings", "documents", "metadatas"]}
        got = ask(f"{found['id']}/get", want)
        for key, vector, text in zip(got["ids"], got["embeddings"], got["documents"]):
            points[key] = (vector, text)
        said |= zip(got["ids"], (metadata or {} for metadata in got["metadatas"]))
        if len(got["ids"]) < page:
            return points, said
        offset += page


def embedded(question, chunks):
    """Vector and text by id, the vectors as the endpoint makes them."""
    ids, points = sorted(chunks), {}
    for at in range(0, len(ids), 100):
        some = ids[at:at + 100]
        texts = [chunks[key]["text"] for key in some]
        body = json.dumps({"model": question["model"], "input": texts}).encode()
        headers = {"content-type": "application/json", "authorization": f"Bearer {question['key']}"}
        request = urllib.request.Request(f"{question['endpoint']}/embeddings", body, headers)
        with urllib.request.urlopen(request, timeout=120) as answer:
            for found in json.load(answer)["data"]:
                points[some[found["index"]]] = (found["embedding"], texts[found["index"]])
    return points


def main():
    question = json.loads(sys.argv[1])
    wrong = []
    table, rows = rows_of(question["table"])
    check_files(table, wrong)
    documents, chunks = check_rows(rows, wrong)
    if question.get("other"):
        _, others = rows_of(question["other"])
        other = {row["id"]: (row["vector"], row["text"]) for row in others if row["id"]}
        compare("the other table", chunks, other, wrong)
        plain = lambda all: sorted(
            (row["document"], row["chunk"] or 0, row["note"] or "", row["heading"] or "", row["start"] or 0)
            for row in all
        )
        if plain(rows) != plain(others):
            wrong.append("the other table tells other things of its chunks")
    if question.get("chroma"):
        points, said = collection(question["chroma"], question["collection"])
        compare("the collection", chunks, points, wrong)
        compare_told(chunks, said, wrong)
    if question.get("endpoint"):
        compare("the endpoint", chunks, embedded(question, chunks), wrong)
    print(json.dumps({
        "documents": {name: len(numbers) for name, numbers in documents.items()},
        "chunks": {key: row["hash"] for key, row in chunks.items()},
        "notes": {row["document"]: row["note"] for row in rows if row["note"]},
        "titles": {row["document"]: row["title"] for row in rows if row["title"]},
        "files": len(table.file_uris()),
        "version": table.version(),
        "wrong": wrong[:10],
    }))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
