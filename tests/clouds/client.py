"""What a container or a bucket holds, by the services' own clients.

Usage: client.py azure|google PORT

Reads one question a line and answers each with one line, both JSON:

    {"do": "create", "bucket": B}
    {"do": "put", "bucket": B, "key": K, "content": BASE64, "type": T, "metadata": {...}}
    {"do": "remove", "bucket": B, "key": K}
    {"do": "all", "bucket": B, "prefix": P}  ->  {KEY: {"content": BASE64, "type": T,
                                                  "metadata": {...}, "md5": HEX or null}}
"""

import base64
import json
import sys

# As published with the emulator; it is no secret.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class Azure:
    def __init__(self, port):
        from azure.storage.blob import BlobServiceClient, ContentSettings

        self.settings = ContentSettings
        self.service = BlobServiceClient(f"http://127.0.0.1:{port}/{ACCOUNT}", credential=KEY)

    def create(self, bucket):
        self.service.create_container(bucket)

    def put(self, bucket, key, content, kind, metadata):
        settings = self.settings(content_type=kind) if kind else None
        blob = self.service.get_blob_client(bucket, key)
        blob.upload_blob(content, overwrite=True, metadata=metadata, content_settings=settings)

    def remove(self, bucket, key):
        self.service.get_blob_client(bucket, key).delete_blob()

    def all(self, bucket, prefix):
        container = self.service.get_container_client(bucket)
        for blob in container.list_blobs(name_starts_with=prefix, include=["metadata"]):
            content = container.download_blob(blob.name).readall()
            md5 = blob.content_settings.content_md5
            yield blob.name, content, blob.content_settings.content_type, blob.metadata, md5 and bytes(md5).hex()


class Google:
    def __init__(self, port):
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage

        options = {"api_endpoint": f"http://127.0.0.1:{port}"}
        self.client = storage.Client("test", AnonymousCredentials(), client_options=options)

    def create(self, bucket):
        self.client.create_bucket(bucket)

    def put(self, bucket, key, content, kind, metadata):
        blob = self.client.bucket(bucket).blob(key)
        blob.metadata = metadata
        blob.upload_from_string(content, content_type=kind or "application/octet-stream")

    def remove(self, bucket, key):
        self.client.bucket(bucket).blob(key).delete()

    def all(self, bucket, prefix):
        for blob in self.client.list_blobs(bucket, prefix=prefix):
            md5 = blob.md5_hash and base64.b64decode(blob.md5_hash).hex()
            yield blob.name, blob.download_as_bytes(), blob.content_type, blob.metadata, md5


def answer(client, asked):
    bucket = asked["bucket"]
    match asked["do"]:
        case "create":
            client.create(bucket)
        case "put":
            content = base64.b64decode(asked["content"])
            client.put(bucket, asked["key"], content, asked.get("type"), asked.get("metadata"))
        case "remove":
            client.remove(bucket, asked["key"])
        case "all":
            return {
                key: {
                    "content": base64.b64encode(content).decode(),
                    "type": kind,
                    "metadata": metadata or {},
                    "md5": md5,
                }
                for key, content, kind, metadata, md5 in client.all(bucket, asked["prefix"])
            }
    return None


def main():
    kind, port = sys.argv[1:]
    client = (Azure if kind == "azure" else Google)(port)
    for line in sys.stdin:
        print(json.dumps(answer(client, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
