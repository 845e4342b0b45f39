"""Where repositories lie: in a directory, or in a bucket behind a link with or without latency."""

import dataclasses
import pathlib
import subprocess

from benchmark.host import Failed, remove, usage_of

BUCKET = "bench"
REGION = "us-east-1"
# Those of examples/s3-server.
ACCESS_KEY = "AKWALRSBENCH"
SECRET_KEY = "not-much-of-a-secret"
LATENCY_MS = 30


@dataclasses.dataclass(frozen=True)
class Place:
    """One repository's place. The files below `path` are its objects, on S3 too."""

    path: pathlib.Path
    walrs: dict
    pgbackrest: dict

    def usage(self):
        """Bytes and number of objects."""
        return usage_of(self.path)

    def remove(self):
        remove(self.path)


class DirectoryStore:
    name = "directory"

    def __init__(self, host):
        self.host = host

    def place(self, name):
        path = self.host.directory("repositories") / name
        return Place(path, {"WALRS_REPOSITORY": f"file://{path}"}, {"repo1-path": path})


class S3Store:
    """A bucket over TLS; `latency_ms` longer for a question and its answer."""

    def __init__(self, server, latency_ms):
        self.server = server
        self.latency_ms = latency_ms
        self.name = f"s3-{latency_ms}ms" if latency_ms else "s3"

    def place(self, name):
        """The same name is the same repository, whatever the latency."""
        address, port = self.server.endpoint(self.latency_ms)
        walrs = {
            "WALRS_REPOSITORY": f"s3://{BUCKET}/{name}",
            "WALRS_S3_ENDPOINT": f"https://{address}:{port}",
            "WALRS_S3_PATH_STYLE": "true",
            "WALRS_S3_REGION": REGION,
            "WALRS_S3_CA_FILE": str(self.server.certificate),
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        }
        pgbackrest = {
            "repo1-type": "s3", "repo1-path": f"/{name}", "repo1-s3-bucket": BUCKET, "repo1-s3-region": REGION,
            "repo1-s3-endpoint": address, "repo1-s3-uri-style": "path", "repo1-s3-key": ACCESS_KEY,
            "repo1-s3-key-secret": SECRET_KEY, "repo1-storage-host": address, "repo1-storage-port": port,
            "repo1-storage-verify-tls": "n",
        }
        return Place(self.server.data / BUCKET / name, walrs, pgbackrest)


class S3Server:
    """The S3 server of the checkout, started when first asked for."""

    def __init__(self, host, binary):
        self.host = host
        self.binary = binary
        self.data = host.directory("s3")
        self.certificate = self.data.with_name("s3-certificate.pem")
        self.process = None
        self.endpoints = {}

    def endpoint(self, latency_ms):
        if self.process is None:
            self.start()
        return self.endpoints[latency_ms]

    def start(self):
        self.host.directory("s3", BUCKET)
        key = self.data.with_name("s3-key.pem")
        self.host.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                       "-subj", "/CN=walrs bench", "-addext", "subjectAltName=IP:127.0.0.1", "-addext",
                       "basicConstraints=critical,CA:FALSE", "-days", "2", "-keyout", key, "-out", self.certificate])
        program = self.host.adopt(self.binary())
        # It ends when its standard input does: with this script, however that ends.
        self.process = self.host.start([program, self.data, self.certificate, key, LATENCY_MS],
                                       stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for latency_ms in (0, LATENCY_MS):
            words = self.process.stdout.readline().split()
            if len(words) != 2 or int(words[0]) != latency_ms:
                raise Failed("the S3 server does not start")
            self.endpoints[latency_ms] = words[1].rsplit(":", 1)

    def close(self):
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()


class Stores:
    """All of them by name."""

    def __init__(self, host, server):
        stores = [DirectoryStore(host), S3Store(server, 0), S3Store(server, LATENCY_MS)]
        self.by_name = {store.name: store for store in stores}

    def __getitem__(self, name):
        return self.by_name[name]

    @staticmethod
    def names():
        return ["directory", "s3", f"s3-{LATENCY_MS}ms"]
