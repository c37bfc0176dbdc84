"""Does to a ChromaDB collection what others might do behind our back.

Usage: harm_chroma.py '{"chroma": URL, "collection": NAME, "harm": "empty"|"some"|"add"|"remove"}'
"""

import json
import sys
import urllib.parse
import urllib.request


def main():
    question = json.loads(sys.argv[1])
    base = f"{question['chroma']}/api/v2/tenants/default_tenant/databases/default_database/collections"

    def ask(method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(f"{base}/{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    name = urllib.parse.quote(question["collection"])
    found = ask("GET", name)["id"]
    harm = question["harm"]
    if harm in ("empty", "some"):
        limit = 300 if harm == "empty" else 3
        while True:
            ids = ask("POST", f"{found}/get", {"limit": limit, "include": []})["ids"]
            if ids:
                ask("POST", f"{found}/delete", {"ids": ids})
            if harm == "some" or not ids:
                break
    elif harm == "add":
        point = {"ids": ["stranger"], "embeddings": [[1.0] + [0.0] * 383], "documents": ["not ours"]}
        ask("POST", f"{found}/upsert", point)
    elif harm == "remove":
        ask("DELETE", name)
    print(json.dumps({"harm": harm}))


if __name__ == "__main__":
    main()
