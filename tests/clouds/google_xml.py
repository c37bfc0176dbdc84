"""Google's XML interface, in terms of its JSON interface.

Written after the "XML API reference" of Google Cloud Storage: list (version 2), read,
look, put, delete, and uploads in parts. What has no path of that interface is none of
ours and is passed on as it is.
"""

import base64
import json
import struct
import threading
import uuid
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import google_crc32c

JSON = ("/storage/v1/", "/upload/", "/download/", "/batch/", "/_internal/", "/resumable/", "/b/")

# Of a request and of an answer, by the name in the JSON interface.
DESCRIBING = {
    "content-type": "contentType",
    "content-encoding": "contentEncoding",
    "content-language": "contentLanguage",
    "content-disposition": "contentDisposition",
    "cache-control": "cacheControl",
}

SMALLEST_PART = 5 << 20

# A service may tell fewer objects at a time than it is asked for.
MOST_OF_A_PAGE = 50


class Failed(Exception):
    def __init__(self, status, code, message=""):
        super().__init__(code)
        self.answer = (
            status,
            [("Content-Type", "application/xml")],
            f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>".encode(),
        )


def crc32c(content):
    return base64.b64encode(struct.pack(">I", google_crc32c.value(content))).decode()


class Translator:
    def __init__(self):
        self.lock = threading.Lock()
        self.uploads = {}
        # Generations of objects that were put in parts: these have no MD5.
        self.in_parts = set()

    def handle(self, upstream, request, body):
        """The answer; nothing where the request is for somebody else."""
        if request.path.startswith(JSON):
            return None
        try:
            return Asked(self, upstream, request, body).answer()
        except Failed as failed:
            return failed.answer


class Asked:
    def __init__(self, shared, upstream, request, body):
        self.shared, self.upstream, self.body = shared, upstream, body
        self.method = request.command
        self.headers = {name.lower(): value for name, value in request.headers.items()}
        address = urlsplit(request.path)
        _, bucket, *key = address.path.split("/", 2)
        self.bucket, self.key = unquote(bucket), unquote(key[0]) if key else ""
        query = parse_qs(address.query, keep_blank_values=True)
        self.query = {name: values[0] for name, values in query.items()}

    def answer(self):
        if self.headers.get("authorization") == "Bearer wrong":
            raise Failed(401, "AuthenticationRequired", "Authentication required.")
        if not self.key:
            return self.list()
        if "uploads" in self.query and self.method == "POST":
            return self.begin()
        if "uploadId" in self.query:
            parts = {"PUT": self.part, "POST": self.complete, "DELETE": self.abandon}
            return parts[self.method]()
        ways = {"GET": self.read, "HEAD": self.read, "PUT": self.put, "DELETE": self.delete}
        return ways[self.method]()

    # The JSON interface.

    def json(self, method, path, body=b"", headers=()):
        status, _, content = self.upstream(method, path, headers, body)
        if status == 404:
            self.missing()
        if status == 412:
            raise Failed(412, "PreconditionFailed", "At least one of the pre-conditions did not hold.")
        if status >= 300:
            raise Failed(status, "InternalError", content.decode(errors="replace"))
        return json.loads(content) if content else None

    def missing(self):
        status, _, _ = self.upstream("GET", f"/storage/v1/b/{quote(self.bucket, safe='')}", (), b"")
        if status == 404:
            raise Failed(404, "NoSuchBucket", "The specified bucket does not exist.")
        raise Failed(404, "NoSuchKey", "The specified key does not exist.")

    def object_path(self):
        return f"/storage/v1/b/{quote(self.bucket, safe='')}/o/{quote(self.key, safe='')}"

    def etag(self, item):
        return '"' + (self.md5(item) or f"{item['generation']}=") + '"'

    def md5(self, item):
        if (item["name"], item["generation"]) in self.shared.in_parts:
            return None
        return base64.b64decode(item["md5Hash"]).hex()

    # Requests.

    def list(self):
        told = {"maxResults": min(int(self.query.get("max-keys", "1000")), MOST_OF_A_PAGE)}
        for name, there in [("prefix", "prefix"), ("delimiter", "delimiter"), ("continuation-token", "pageToken")]:
            if self.query.get(name):
                told[there] = self.query[name]
        if self.query.get("start-after") and "pageToken" not in told:
            # There it begins with this one, here after it.
            told["startOffset"] = self.query["start-after"] + "\0"
        query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in told.items())
        page = self.json("GET", f"/storage/v1/b/{quote(self.bucket, safe='')}/o?{query}")
        encoded = self.query.get("encoding-type") == "url"
        name = (lambda text: quote(text, safe="")) if encoded else escape
        xml = ["<?xml version='1.0' encoding='UTF-8'?><ListBucketResult>"]
        if encoded:
            xml.append("<EncodingType>url</EncodingType>")
        token = page.get("nextPageToken")
        xml.append(f"<IsTruncated>{'true' if token else 'false'}</IsTruncated>")
        if token:
            xml.append(f"<NextContinuationToken>{escape(token)}</NextContinuationToken>")
        for item in page.get("items", []):
            xml.append(
                f"<Contents><Key>{name(item['name'])}</Key><Generation>{item['generation']}</Generation>"
                f"<LastModified>{item['updated']}</LastModified><ETag>{escape(self.etag(item))}</ETag>"
                f"<Size>{item['size']}</Size></Contents>"
            )
        for prefix in page.get("prefixes", []):
            xml.append(f"<CommonPrefixes><Prefix>{name(prefix)}</Prefix></CommonPrefixes>")
        xml.append("</ListBucketResult>")
        return 200, [("Content-Type", "application/xml")], "".join(xml).encode()

    def read(self):
        item = self.json("GET", self.object_path())
        if self.headers.get("if-match") not in (None, "*", self.etag(item)):
            raise Failed(412, "PreconditionFailed", "At least one of the pre-conditions did not hold.")
        if self.headers.get("x-goog-if-generation-match") not in (None, item["generation"]):
            raise Failed(412, "PreconditionFailed", "At least one of the pre-conditions did not hold.")
        hashes = f"crc32c={item['crc32c']}"
        if self.md5(item):
            hashes += f",md5={base64.b64encode(bytes.fromhex(self.md5(item))).decode()}"
        headers = [
            ("ETag", self.etag(item)),
            ("x-goog-generation", item["generation"]),
            ("x-goog-hash", hashes),
        ]
        headers += [(name, item[there]) for name, there in DESCRIBING.items() if item.get(there)]
        metadata = item.get("metadata", {}).items()
        headers += [(f"x-goog-meta-{name}", value.encode().decode("latin-1")) for name, value in metadata]
        wanted = [(name, self.headers[name]) for name in ("range", "accept-encoding") if name in self.headers]
        status, media, content = self.upstream("GET", self.object_path() + "?alt=media", wanted, b"")
        told = {name.lower(): value for name, value in media}
        if status >= 400 or told.get("x-goog-generation") != item["generation"]:
            raise Failed(412, "PreconditionFailed", "It has changed meanwhile.")
        headers += [(name, told[name]) for name in ("last-modified", "content-range") if name in told]
        if item.get("contentEncoding") == "gzip" and "gzip" not in self.headers.get("accept-encoding", ""):
            raise Failed(501, "NotImplemented", "Google unpacks here; ask for what is stored")
        if self.method == "HEAD":
            headers.append(("Content-Length", item["size"]))
        return status, headers, content

    def check(self):
        """What was said of the content must hold."""
        for told in self.headers.get("x-goog-hash", "").split(","):
            name, _, value = told.strip().partition("=")
            if name == "crc32c" and value != crc32c(self.body):
                raise Failed(400, "BadDigest", "The CRC32C does not match.")

    def described(self):
        told = {there: self.headers[name] for name, there in DESCRIBING.items() if name in self.headers}
        metadata = {
            name.removeprefix("x-goog-meta-"): value.encode("latin-1").decode(errors="replace")
            for name, value in self.headers.items()
            if name.startswith("x-goog-meta-")
        }
        if metadata:
            told["metadata"] = metadata
        return told

    def upload(self, told, content):
        about = json.dumps(told | {"name": self.key}).encode()
        kind = told.get("contentType", "application/octet-stream").encode()
        mark = uuid.uuid4().hex.encode()
        body = b"".join([
            b"--", mark, b"\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n", about,
            b"\r\n--", mark, b"\r\nContent-Type: ", kind, b"\r\n\r\n", content, b"\r\n--", mark, b"--\r\n",
        ])
        path = f"/upload/storage/v1/b/{quote(self.bucket, safe='')}/o?uploadType=multipart"
        condition = self.headers.get("x-goog-if-generation-match")
        if condition is not None:
            path += f"&ifGenerationMatch={condition}"
        return self.json("POST", path, body, [("Content-Type", f"multipart/related; boundary={mark.decode()}")])

    def put(self):
        self.check()
        item = self.upload(self.described(), self.body)
        return 200, [("ETag", self.etag(item)), ("x-goog-generation", item["generation"])], b""

    def delete(self):
        self.json("DELETE", self.object_path())
        return 204, [], b""

    # Uploads in parts.

    def begin(self):
        self.json("GET", f"/storage/v1/b/{quote(self.bucket, safe='')}")
        upload = uuid.uuid4().hex
        with self.shared.lock:
            self.shared.uploads[upload] = (self.key, self.described(), {})
        xml = f"<InitiateMultipartUploadResult><Bucket>{escape(self.bucket)}</Bucket>" \
              f"<Key>{escape(self.key)}</Key><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
        return 200, [("Content-Type", "application/xml")], xml.encode()

    def found(self):
        with self.shared.lock:
            found = self.shared.uploads.get(self.query["uploadId"])
        if found is None or found[0] != self.key:
            raise Failed(404, "NoSuchUpload", "The requested upload was not found.")
        return found

    def part(self):
        self.check()
        _, _, parts = self.found()
        etag = f'"{crc32c(self.body)}-{len(self.body)}"'
        with self.shared.lock:
            parts[int(self.query["partNumber"])] = (etag, self.body)
        return 200, [("ETag", etag)], b""

    def complete(self):
        _, told, parts = self.found()
        content = []
        wanted = [(int(part.findtext("PartNumber")), part.findtext("ETag"))
                  for part in ElementTree.fromstring(self.body).iter("Part")]
        if wanted != sorted(wanted):
            raise Failed(400, "InvalidPartOrder", "Parts must be in ascending order.")
        for number, etag in wanted:
            if number not in parts or parts[number][0] != etag:
                raise Failed(400, "InvalidPart", f"Part {number} is not there.")
            content.append(parts[number][1])
        if any(len(part) < SMALLEST_PART for part in content[:-1]):
            raise Failed(400, "EntityTooSmall", "A part is smaller than 5 MiB.")
        item = self.upload(told, b"".join(content))
        with self.shared.lock:
            self.shared.in_parts.add((item["name"], item["generation"]))
            del self.shared.uploads[self.query["uploadId"]]
        xml = f"<CompleteMultipartUploadResult><Key>{escape(self.key)}</Key>" \
              f"<ETag>{escape(self.etag(item))}</ETag></CompleteMultipartUploadResult>"
        return 200, [("Content-Type", "application/xml"), ("x-goog-generation", item["generation"])], xml.encode()

    def abandon(self):
        self.found()
        with self.shared.lock:
            del self.shared.uploads[self.query["uploadId"]]
        return 204, [], b""
