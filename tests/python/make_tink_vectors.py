"""Writes the known answers in src/segment/format/vectors/tink.json, with Tink itself.

usage: make_tink_vectors.py > src/segment/format/vectors/tink.json
"""

import json

from tink_segment import encrypt

KEY = bytes(range(32))
ASSOCIATED = (
    "assent-seg-v1|019aa8a6-2c00-7abc-8def-0123456789ab|1|12|"
    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
# Empty, in the first chunk, exactly full chunks, and one byte more.
LENGTHS = [0, 1, 1991, 1992, 1993, 1992 + 2032, 1992 + 2032 + 1]


def main():
    """Encrypts texts of each length."""
    print(json.dumps({
        "key": KEY.hex(),
        "associated_data": ASSOCIATED,
        "plaintext": "byte i is (7 * i + 3) mod 256",
        "vectors": [
            {"length": n, "file": encrypt(KEY, ASSOCIATED.encode(),
                                          bytes((7 * i + 3) % 256 for i in range(n))).hex()}
            for n in LENGTHS
        ],
    }, indent=1))


if __name__ == "__main__":
    main()
