"""A server that is like S3, for tests: prints its address, and serves until its standard input closes."""

from __future__ import annotations

import sys

from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
print(f"http://{host}:{port}", flush=True)  # noqa: T201
sys.stdin.read()
server.stop()
