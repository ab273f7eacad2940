"""A page over HTTP on a Unix socket."""

import os
import socketserver
from http.server import BaseHTTPRequestHandler

PATH = "/tmp/bert.sock"


class Page(BaseHTTPRequestHandler):
    def address_string(self) -> str:
        return "nginx"  # a socket in a file has no address

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "12")
        self.end_headers()
        self.wfile.write(b"a neighbour\n")


os.umask(0)
with socketserver.UnixStreamServer(PATH, Page) as server:
    server.serve_forever()
