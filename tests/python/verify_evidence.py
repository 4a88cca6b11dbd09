#!/usr/bin/env python3
"""Verifies a chain of Assent's evidence records, as docs/evidence-format.md describes them.

    verify_evidence.py PUBLIC_KEY_HEX < records      (one record a line, in order, from the first)
    verify_evidence.py PUBLIC_KEY_HEX --head SEQUENCE:DIGEST < records

Needs the package `cryptography`, and nothing of Assent. Exit code 0: the chain holds; 2: it does
not, and the line and the reason are on standard error.
"""

import hashlib
import json
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def canonical(value):
    """RFC 8785 for what evidence holds: texts, whole numbers, lists and ASCII member names."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def require(holds, otherwise):
    if not holds:
        raise ValueError(otherwise)


def verify(lines, public, head=None):
    key = Ed25519PublicKey.from_public_bytes(public)
    key_id = hashlib.sha256(public).hexdigest()[:16]
    sequence, digest = 0, "00" * 32
    for line in lines:
        record = json.loads(line)
        require(canonical(record) == line, "not in canonical form")
        body, signature = record["evidence"], bytes.fromhex(record["signature"])
        signed = canonical(body)
        require(body["version"] == 1, "unknown version")
        require(body["signing_key"] == key_id, "signed by another key")
        key.verify(signature, signed)
        require(body["sequence"] == sequence + 1, f"record {sequence + 1} is missing")
        require(body["previous"] == digest, "does not follow the record before it")
        sequence, digest = body["sequence"], hashlib.sha256(signed).hexdigest()
    require(head in (None, f"{sequence}:{digest}"), f"the chain ends at {sequence}:{digest}")
    return sequence, digest


if __name__ == "__main__":
    expected = sys.argv[3] if len(sys.argv) > 3 else None
    records = sys.stdin.buffer.read().splitlines()
    try:
        print("%d:%s" % verify(records, bytes.fromhex(sys.argv[1]), expected))
    except (InvalidSignature, KeyError, TypeError, ValueError) as why:
        print(f"the chain does not hold: {why or 'a signature is not that of its record'}", file=sys.stderr)
        sys.exit(2)
