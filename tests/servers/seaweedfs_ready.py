"""Succeeds when S3 at PORT takes signed writes, and leaves an empty bucket: `seaweedfs_ready.py PORT BUCKET KEY SECRET`.

An open port is not enough: the gateway answers before the volume server has joined, and refuses objects until then.
"""

import hashlib
import hmac
import http.client
import sys
import time


def signed(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def request(port: int, method: str, path: str, body: bytes, key: str, secret: str) -> tuple[int, bytes]:
    """One request with AWS Signature Version 4."""
    host = f"127.0.0.1:{port}"
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    digest = hashlib.sha256(body).hexdigest()
    names = "host;x-amz-content-sha256;x-amz-date"
    canonical = f"{method}\n{path}\n\nhost:{host}\nx-amz-content-sha256:{digest}\nx-amz-date:{now}\n\n{names}\n{digest}"
    scope = f"{now[:8]}/us-east-1/s3/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signing_key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        signing_key = signed(signing_key, part)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, body, {
            "x-amz-content-sha256": digest,
            "x-amz-date": now,
            "Authorization": f"AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={names}, "
                             f"Signature={signed(signing_key, to_sign).hex()}",
        })
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def main() -> None:
    port, (bucket, key, secret) = int(sys.argv[1]), sys.argv[2:5]
    steps = [
        # A bucket that an earlier start on the same data made is as good as a new one.
        ("PUT", f"/{bucket}", b"", (200, 409)),
        ("PUT", f"/{bucket}/ready", b"ready", (200,)),
        ("DELETE", f"/{bucket}/ready", b"", (204,)),
    ]
    for method, path, body, good in steps:
        try:
            status, answer = request(port, method, path, body, key, secret)
        except OSError as error:
            sys.exit(f"{method} {path}: {error}")
        if status not in good:
            sys.exit(f"{method} {path}: {status} {answer.decode(errors='replace')}")


main()
