"""Stands before Elasticsearch, passes everything on, and keeps the bulk bodies that a program sends."""

import http.client
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Recorder:
    """A server of its own while the block runs; `url` is where it is, FOLDER/replayed-NNNNN what came, for indices whose
    names begin with PREFIX-."""

    def __init__(self, server_url, name, folder):
        server, lock, kept = urlsplit(server_url), threading.Lock(), []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if urlsplit(self.path).path == "/_bulk":
                    if "Content-Encoding" in self.headers:
                        return self.send_error(415, "a compressed bulk body can't be replayed")
                    with lock:
                        kept.append(None)
                        path = os.path.join(folder, f"replayed-{len(kept):05}")
                    with open(path, "wb") as file:
                        file.write(body.replace(b'"' + name.encode() + b"-", b'"PREFIX-'))
                connection = http.client.HTTPConnection(server.hostname, server.port)
                headers = {key: value for key, value in self.headers.items() if key.lower() != "host"}
                connection.request(self.command, self.path, body, headers)
                answer = connection.getresponse()
                told = answer.read()
                self.send_response_only(answer.status)
                for key, value in answer.getheaders():
                    if key.lower() not in ("transfer-encoding", "content-length", "connection"):
                        self.send_header(key, value)
                if self.command != "HEAD":
                    self.send_header("Content-Length", str(len(told)))
                self.end_headers()
                self.wfile.write(told)
                connection.close()

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = pass_on

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()
