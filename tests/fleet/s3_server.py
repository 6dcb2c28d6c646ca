"""A server that is like S3, for tests: prints its address, serves until its standard input closes, says what it holds.

Its argument is a folder whose files are in the bucket from the start. What has it loaded makes the bucket and looks at
it, too: another process would load it once more.
"""

from __future__ import annotations

import sys
from pathlib import Path

import boto3
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
client = boto3.client("s3", endpoint_url=f"http://{host}:{port}")
client.create_bucket(Bucket="bucket")
for file in Path(sys.argv[1]).iterdir():
    client.upload_file(str(file), "bucket", f"run/{file.name}")
print(f"http://{host}:{port}", flush=True)  # noqa: T201
sys.stdin.read()
print(*(held["Key"] for held in client.list_objects_v2(Bucket="bucket")["Contents"]))  # noqa: T201
server.stop()
