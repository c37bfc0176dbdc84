"""A cloud emulator of others behind a gate that can fail, for the tests.

Usage: gateway.py azure AZURITE_JS | gateway.py google FAKE_GCS_SERVER

Starts the emulator and a gate in front of it, both on free ports of this machine,
prints the gate's port, and ends with its standard input. Everything that is asked of
the gate is passed on; before that, faults are applied:

    POST /_gate/faults  {"method": M, "contains": TEXT, "action": A, "times": N}
                        A: a status (503), "cut" the connection before the request is
                        passed on, "lose" the answer after it, "flip" a bit of the body
    GET  /_gate/seen    [[method, path with query], ...]

Azurite speaks the interface of Azure itself. fake-gcs-server knows Google's JSON
interface well and little of its XML interface, which `object_store` and Highwater use:
the gate translates that one (`xml.py`). Contents, generations, put-if-absent, hashes
and metadata are the emulator's in both cases.
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import google_xml

# Headers that belong to one connection, not to the request.
OWN = {"connection", "keep-alive", "transfer-encoding", "host", "content-length", "date", "server"}


class Faults:
    """What goes wrong, and what was asked."""

    def __init__(self):
        self.lock = threading.Lock()
        self.rules = []
        self.seen = []

    def add(self, rule):
        with self.lock:
            self.rules.append(rule)

    def of(self, method, path):
        with self.lock:
            self.seen.append([method, path])
            for rule in self.rules:
                if rule["times"] > 0 and rule["method"] == method and rule["contains"] in path:
                    rule["times"] -= 1
                    return rule["action"]
        return None


class Gate(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    faults = Faults()
    upstream_port = 0
    translate = None

    def log_message(self, *_):
        pass

    def any_method(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b""
        if self.path.startswith("/_gate/"):
            return self.control(body)
        action = self.faults.of(self.command, self.path)
        if action == "cut":
            return self.cut()
        if isinstance(action, int):
            return self.answer(action, [("Retry-After", "0")], b"")
        answer = self.translate and self.translate.handle(self.upstream, self, body)
        status, headers, content = answer or self.upstream(self.command, self.path, self.headers.items(), body)
        if action == "lose":
            return self.cut()
        if action == "flip" and content:
            middle = len(content) // 2
            content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        return self.answer(status, headers, content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = any_method

    def cut(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def control(self, body):
        if self.path == "/_gate/faults":
            self.faults.add(json.loads(body))
            return self.answer(200, [], b"")
        with self.faults.lock:
            return self.answer(200, [], json.dumps(self.faults.seen).encode())

    def upstream(self, method, path, headers, body):
        """One request to the emulator: status, headers and content of the answer."""
        for attempt in range(2):
            if getattr(self, "line", None) is None:
                self.line = http.client.HTTPConnection("127.0.0.1", self.upstream_port, timeout=60)
            try:
                self.line.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
                self.line.putheader("Host", f"127.0.0.1:{self.upstream_port}")
                for name, value in headers:
                    if name.lower() not in OWN - {"date"}:
                        self.line.putheader(name, value)
                if body or method in ("PUT", "POST", "PATCH"):
                    self.line.putheader("Content-Length", str(len(body)))
                self.line.endheaders(body or None)
                answer = self.line.getresponse()
                content = answer.read()
                return answer.status, answer.getheaders(), content
            except (http.client.HTTPException, OSError):
                # A line that was kept and is no more.
                self.line.close()
                self.line = None
                if attempt:
                    raise

    def answer(self, status, headers, content):
        self.send_response_only(status)
        length = str(len(content))
        for name, value in headers:
            if name.lower() == "content-length" and self.command == "HEAD":
                length = value
            if name.lower() not in OWN:
                self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        return None


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        # A client that went away.
        pass


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def command(kind, program, port):
    if kind == "azure":
        return ["node", program, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--silent",
                "--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck"]
    return [program, "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-port", str(port),
            "-log-level", "error"]


def start(kind, program):
    """The emulator and its port; ports are found by trying."""
    for _ in range(5):
        port = free_port()
        emulator = subprocess.Popen(command(kind, program, port), stdin=subprocess.DEVNULL,
                                    stdout=subprocess.DEVNULL, stderr=sys.stderr)
        until = time.monotonic() + 60
        while time.monotonic() < until and emulator.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return emulator, port
            except OSError:
                time.sleep(0.02)
        emulator.kill()
        emulator.wait()
    sys.exit(f"{program} did not start five times over")


def main():
    kind, program = sys.argv[1:]
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    emulator, Gate.upstream_port = start(kind, program)
    Gate.translate = google_xml.Translator() if kind == "google" else None
    server = Server(("127.0.0.1", 0), Gate)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()
    emulator.kill()
    emulator.wait()
    os._exit(0)


if __name__ == "__main__":
    main()
