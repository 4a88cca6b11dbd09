"""Makes a capture of UDP over IPv4 from an rtpdump file, for Wireshark before 4.2.

usage: rtpdump_to_pcap.py RTPDUMP PCAP
"""

import struct
import sys

RAW_IP = 101
PORT = 4000


def convert(dump):
    """The capture of an rtpdump file's packets, all from and to port 4000."""
    line, rest = dump.split(b"\n", 1)
    assert line.startswith(b"#!rtpplay1.0 "), line
    start, micros = struct.unpack(">II", rest[:8])
    rest = rest[16:]
    capture = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, RAW_IP)
    while rest:
        length, plen, offset = struct.unpack(">HHI", rest[:8])
        assert length == plen + 8, (length, plen)
        rtp, rest = rest[8:length], rest[length:]
        udp = struct.pack(">HHHH", PORT, PORT, 8 + plen, 0) + rtp
        ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0,
                         bytes([192, 0, 2, 7]), bytes([192, 0, 2, 1])) + udp
        at = start * 1_000_000 + micros + offset * 1000
        capture += struct.pack("<IIII", at // 1_000_000, at % 1_000_000, len(ip), len(ip)) + ip
    return capture


def main():
    """Converts one file."""
    with open(sys.argv[1], "rb") as source:
        capture = convert(source.read())
    with open(sys.argv[2], "wb") as target:
        target.write(capture)


if __name__ == "__main__":
    main()
