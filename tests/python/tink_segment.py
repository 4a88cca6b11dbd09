"""Opens and makes segments with Google's Tink alone, as any downstream program could.

usage: tink_segment.py decrypt KEY_HEX ASSOCIATED_DATA IN OUT
       tink_segment.py encrypt KEY_HEX ASSOCIATED_DATA IN OUT
       tink_segment.py verify PUBLIC_KEY_HEX MANIFEST
"""

import base64
import io
import json
import sys

import tink
from tink import secret_key_access, signature, streaming_aead
from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, ed25519_pb2

CHUNK = 2048


def keyset(type_url, message, material):
    """A Tink keyset of one raw key, as JSON."""
    return json.dumps({
        "primaryKeyId": 1,
        "key": [{
            "keyData": {
                "typeUrl": "type.googleapis.com/google.crypto.tink." + type_url,
                "value": base64.b64encode(message.SerializeToString()).decode(),
                "keyMaterialType": material,
            },
            "status": "ENABLED",
            "keyId": 1,
            "outputPrefixType": "RAW",
        }],
    })


def streaming(key):
    """The streaming AEAD of a 32-byte data key."""
    message = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(
        version=0,
        key_value=key,
        params=aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingParams(
            ciphertext_segment_size=CHUNK,
            derived_key_size=32,
            hkdf_hash_type=common_pb2.SHA256,
        ),
    )
    streaming_aead.register()
    handle = tink.json_proto_keyset_format.parse(
        keyset("AesGcmHkdfStreamingKey", message, "SYMMETRIC"), secret_key_access.TOKEN)
    return handle.primitive(streaming_aead.StreamingAead)


def decrypt(key, associated, ciphertext):
    """The plaintext of a segment."""
    stream = streaming(key).new_decrypting_stream(io.BytesIO(ciphertext), associated)
    with stream:
        return stream.read()


def encrypt(key, associated, plaintext):
    """A segment with this plaintext."""
    out = io.BytesIO()
    out.close_for_real, out.close = out.close, lambda: None
    with streaming(key).new_encrypting_stream(out, associated) as stream:
        stream.write(plaintext)
    return out.getvalue()


def verify(public, manifest):
    """Fails unless the manifest's signature is that of this Ed25519 key."""
    signature.register()
    message = ed25519_pb2.Ed25519PublicKey(version=0, key_value=public)
    handle = tink.json_proto_keyset_format.parse_without_secret(
        keyset("Ed25519PublicKey", message, "ASYMMETRIC_PUBLIC"))
    fields = json.loads(manifest)
    signed = bytes.fromhex(fields.pop("signature"))
    # Canonical JSON: for ASCII keys and whole numbers, RFC 8785 comes down to this.
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    handle.primitive(signature.PublicKeyVerify).verify(signed, text.encode())


def main():
    """Does what the arguments say."""
    verb, key = sys.argv[1], bytes.fromhex(sys.argv[2])
    if verb == "verify":
        with open(sys.argv[3], "rb") as source:
            verify(key, source.read())
        return
    associated, source, target = sys.argv[3].encode(), sys.argv[4], sys.argv[5]
    with open(source, "rb") as source:
        data = source.read()
    result = {"decrypt": decrypt, "encrypt": encrypt}[verb](key, associated, data)
    with open(target, "wb") as target:
        target.write(result)


if __name__ == "__main__":
    main()
