"""A server before a sample project that passes its pages on, compressed or not, and counts what it sends."""

import gzip
import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

# Of the connection, not of the answer; and what is said anew.
NOT_PASSED_ON = {"connection", "content-length", "transfer-encoding", "content-encoding", "date", "host"}


class Proxy:
    def __init__(self, url, compressing):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler(urlsplit(url), compressing, self))
        self.sent = 0

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def handler(project, compressing, proxy):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 20
        connection_there = None

        def do_GET(self):
            if self.connection_there is None:
                self.connection_there = http.client.HTTPConnection(project.hostname, project.port)
            headers = {name: value for name, value in self.headers.items() if name.lower() not in NOT_PASSED_ON}
            takes_gzip = "gzip" in headers.pop("accept-encoding", "")
            self.connection_there.request("GET", self.path, headers=headers | {"accept-encoding": "identity"})
            answer = self.connection_there.getresponse()
            body = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in NOT_PASSED_ON:
                    self.send_header(name, value)
            if compressing and takes_gzip:
                # As servers do it by default.
                body = gzip.compress(body, 6)
                self.send_header("content-encoding", "gzip")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            proxy.sent += len(body)

        def finish(self):
            super().finish()
            if self.connection_there is not None:
                self.connection_there.close()

        def log_message(self, *_):
            pass

    return Handler
