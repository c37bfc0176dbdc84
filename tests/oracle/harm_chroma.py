"""Does to a ChromaDB collection what others might do behind our back.

Usage: harm_chroma.py '{"chroma": URL, "collection": NAME, "harm": HARM}'
prints one line of JSON: what it has then, and what it says of itself.

empty   all points go
some    a few points go
add     a point comes that is not ours
swap    the points of the first and of the last chunk go, and one comes that is not ours
edit    a few points get another text and vector; how many there are stays
tell    a few points get other metadata; how many there are stays
forget  it no longer says to which versions runs were on their way
remove  the collection goes
found   others have made one, with so many `points` and this `metadata`
look    nothing is done
"""

import json
import sys
import urllib.parse
import urllib.request


def vector(at):
    return [float(number == at) for number in range(384)]


def main():
    question = json.loads(sys.argv[1])
    base = f"{question['chroma']}/api/v2/tenants/default_tenant/databases/default_database/collections"

    def ask(method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(f"{base}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    name = "/" + urllib.parse.quote(question["collection"])
    harm = question["harm"]
    if harm == "found":
        body = {"name": question["collection"], "metadata": question["metadata"]}
        ask("POST", "", body)
    described = ask("GET", name)
    found = "/" + described["id"]
    few = lambda: ask("POST", f"{found}/get", {"limit": 3, "include": []})["ids"]  # noqa: E731
    if harm in ("empty", "some"):
        limit = 300 if harm == "empty" else 3
        while True:
            ids = ask("POST", f"{found}/get", {"limit": limit, "include": []})["ids"]
            if ids:
                ask("POST", f"{found}/delete", {"ids": ids})
            if harm == "some" or not ids:
                break
    elif harm == "swap":
        points = ask("POST", f"{found}/get", {"limit": 300, "include": ["metadatas"]})
        place = lambda point: (point[1]["document"], point[1]["chunk"])  # noqa: E731
        points = sorted(zip(points["ids"], points["metadatas"]), key=place)
        ask("POST", f"{found}/delete", {"ids": [points[0][0], points[-1][0]]})
    elif harm == "edit":
        ids = few()
        body = {"ids": ids, "embeddings": [vector(5) for _ in ids], "documents": ["not ours" for _ in ids]}
        ask("POST", f"{found}/update", body)
    elif harm == "tell":
        ids = few()
        said = {"title": "not ours", "page": 4711, "chunk": 4711}
        body = {"ids": ids, "embeddings": None, "documents": None, "metadatas": [said for _ in ids]}
        ask("POST", f"{found}/update", body)
    elif harm == "forget":
        said = {key: value for key, value in described["metadata"].items() if key != "highwater_towards"}
        ask("PUT", found, {"new_metadata": said})
    elif harm == "found" and question["points"]:
        numbers = range(question["points"])
        body = {"ids": [f"theirs {n}" for n in numbers], "embeddings": [vector(n) for n in numbers]}
        body["documents"] = [f"nowhere else {n}" for n in numbers]
        ask("POST", f"{found}/upsert", body)
    if harm in ("add", "swap"):
        point = {"ids": ["stranger"], "embeddings": [vector(0)], "documents": ["not ours"]}
        ask("POST", f"{found}/upsert", point)
    if harm == "remove":
        ask("DELETE", name)
        print(json.dumps({"harm": harm}))
        return
    has = ask("POST", f"{found}/get", {"limit": 300, "include": ["documents", "metadatas", "embeddings"]})
    has = {key: has[key] for key in ("ids", "documents", "metadatas", "embeddings")}
    print(json.dumps({"harm": harm, "has": has, "says": ask("GET", name)["metadata"]}))


if __name__ == "__main__":
    main()
