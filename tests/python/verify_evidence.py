#!/usr/bin/env python3
"""Verifies a chain of Assent's evidence records, as docs/evidence-format.md describes them.

    verify_evidence.py PUBLIC_KEY_HEX < records      (one record a line, in order, from the first)
    verify_evidence.py PUBLIC_KEY_HEX --head SEQUENCE:DIGEST < records
    verify_evidence.py PUBLIC_KEY_HEX --events FILE < records   (agent.chain events, one a line)

Needs the package `cryptography`, and nothing of Assent. Exit code 0: the chain holds; 2: it does
not, and the line and the reason are on standard error.
"""

import hashlib
import json
import re
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ANSWERS = {
    "key": {"key", "via", "rtp_timestamp"},
    "keys": {"keys", "via", "rtp_timestamp"},
    "window": {"start", "end"},
    "not-heard": set(),
    "standing": {"agreement"},
    "token": {"digest", "key", "stated"},
    "listed": set(),
    "preference": set(),
    "earlier": {"evidence"},
    "command": {"id"},
    "hung-up": set(),
}
FACTS = {
    "call", "recording", "leg", "party_ref", "transport", "policy", "policy_digest", "basis",
    "gate", "purposes", "controller", "notices", "answer", "outcome", "time",
}
NOTICE = {
    "prompt", "locale", "sha256", "played_ms", "total_ms", "packets", "received", "started",
    "ended", "held", "loss_percent", "completed",
}


def canonical(value):
    """RFC 8785 for what evidence holds: texts, whole numbers, lists and ASCII member names."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def require(holds, otherwise):
    if not holds:
        raise ValueError(otherwise)


def check_facts(facts, earlier):
    """A decision says everything that the format promises; `earlier` are the digests before it."""
    require(FACTS <= facts.keys(), f"lacks {FACTS - facts.keys()}")
    require(re.fullmatch("[0-9a-f]{64}", facts["party_ref"]), "names a party otherwise")
    require(facts["outcome"] in ("granted", "refused", "objected", "withdrawn"), "no such outcome")
    for notice in facts["notices"]:
        require(NOTICE <= notice.keys(), f"a notice lacks {NOTICE - notice.keys()}")
    answer = dict(facts["answer"])
    method = answer.pop("method")
    require(answer.keys() == ANSWERS[method], f"{method} has other members: {list(answer)}")
    for digest in [facts.get("ends"), answer.get("evidence")]:
        require(digest is None or digest in earlier, f"names {digest}, which is not before it")


def verify(lines, public, head=None, events=()):
    key = Ed25519PublicKey.from_public_bytes(public)
    key_id = hashlib.sha256(public).hexdigest()[:16]
    sequence, digest, digests = 0, "00" * 32, []
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
        if body["kind"] == "decision":
            check_facts(body["facts"], digests)
        sequence, digest = body["sequence"], hashlib.sha256(signed).hexdigest()
        digests.append(digest)
    require(head in (None, f"{sequence}:{digest}"), f"the chain ends at {sequence}:{digest}")
    for event in events:
        data = json.loads(event)["data"]
        said = data["head"]
        key.verify(bytes.fromhex(data["signature"]), canonical(said))
        require((said["version"], said["kind"]) == (1, "chain-head"), "not the head of a chain")
        require(said["sequence"] <= sequence, f"{said['sequence']} records were published")
        require(said["digest"] == digests[said["sequence"] - 1], "another chain was published")
    return sequence, digest


if __name__ == "__main__":
    options = dict(zip(sys.argv[2::2], sys.argv[3::2]))
    records = sys.stdin.buffer.read().splitlines()
    published = open(options["--events"], "rb").readlines() if "--events" in options else []
    try:
        public_key = bytes.fromhex(sys.argv[1])
        print("%d:%s" % verify(records, public_key, options.get("--head"), published))
    except (InvalidSignature, KeyError, TypeError, ValueError) as why:
        print(f"the chain does not hold: {why or 'a signature is not that of its record'}", file=sys.stderr)
        sys.exit(2)
