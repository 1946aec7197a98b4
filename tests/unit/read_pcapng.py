"""Reads a pcapng file with packets that begin with IP, checks every length and
checksum, and prints what the packets say: for tap_test.cc.

Usage: read_pcapng.py FILE

A line for each section, comment and packet. The sender of a stream's first
packet is called A, the other one B. The payload stands where its sequence
number says: "GAP 7" is a gap of seven bytes before it.
"""

import ipaddress
import struct
import sys

FLAGS = {1: "FIN", 2: "SYN", 4: "RST", 16: "ACK"}
PUSH = 8


def check(is_right, what):
    if not is_right:
        sys.exit(f"wrong: {what}")


def total(data):
    """The ones' complement sum; 0xffff for data with a right checksum."""
    data += b"\0" * (len(data) % 2)
    result = sum(struct.unpack(f">{len(data) // 2}H", data))
    while result >> 16:
        result = (result & 0xFFFF) + (result >> 16)
    return result


def blocks(data):
    order = None
    while data:
        check(len(data) >= 12, "a block is cut")
        if data[:4] == bytes.fromhex("0a0d0d0a"):
            magic = data[8:12]
            order = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}[magic]
        kind, size = struct.unpack(order + "II", data[:8])
        check(size % 4 == 0 and 12 <= size <= len(data), f"block of {size}")
        check(data[size - 4 : size] == data[4:8], "the second size of a block")
        yield kind, order, data[8 : size - 4]
        data = data[size:]


def options(order, data):
    while data:
        code, size = struct.unpack(order + "HH", data[:4])
        if code == 0:
            check(size == 0 and len(data) == 4, "the end of the options")
            return
        yield code, data[4 : 4 + size]
        data = data[4 + (size + 3) // 4 * 4 :]
    sys.exit("wrong: the options have no end")


def read_ip(packet):
    """Returns the addresses and the TCP segment, both checked."""
    if packet[0] >> 4 == 4:
        check(packet[0] & 15 == 5, "an IPv4 header of another length")
        check(struct.unpack(">H", packet[2:4])[0] == len(packet), "IPv4 length")
        check(total(packet[:20]) == 0xFFFF, "IPv4 checksum")
        check(packet[9] == 6, "not TCP")
        source, target, tcp = packet[12:16], packet[16:20], packet[20:]
        pseudo = source + target + struct.pack(">HH", 6, len(tcp))
    else:
        check(packet[0] >> 4 == 6, "not IP")
        check(
            struct.unpack(">H", packet[4:6])[0] == len(packet) - 40,
            "IPv6 length",
        )
        check(packet[6] == 6, "not TCP")
        source, target, tcp = packet[8:24], packet[24:40], packet[40:]
        pseudo = source + target + struct.pack(">II", len(tcp), 6)
    check(total(pseudo + tcp) == 0xFFFF, "TCP checksum")
    return source, target, tcp


streams = {}  # (end, other end) -> "A" or "B"
expected = {}  # (end, other end) -> the next sequence number


def show(packet):
    source, target, tcp = read_ip(packet)
    ports = struct.unpack(">HH", tcp[:4])
    sequence, acknowledged, offset, flags = struct.unpack(">IIBB", tcp[4:14])
    check(offset >> 4 == 5, "a TCP header of another length")
    payload = tcp[20:]
    way = ((source, ports[0]), (target, ports[1]))
    back = (way[1], way[0])
    if flags & 2 and not flags & 16:
        streams[way], streams[back] = "A", "B"
        print(
            "stream "
            + " - ".join(str(ipaddress.ip_address(a)) for a in (source, target))
        )
        expected.pop(way, None)
        expected.pop(back, None)
    if way not in streams:
        streams[way], streams[back] = "A", "B"
    words = [streams[way]]
    words += [name for flag, name in FLAGS.items() if flags & flag]
    if payload:
        check(flags & PUSH and flags & 16, "flags of a payload")
        words = words[:1]
        gap = sequence - expected.get(way, sequence)
        if gap:
            words.append(f"GAP {gap}")
        if len(payload) > 100:
            words.append(f"{len(payload)} bytes")
        else:
            words.append(repr(payload.decode("latin-1")))
    elif way in expected:
        check(sequence == expected[way], "the sequence number")
    if flags & 16 and back in expected:
        check(acknowledged == expected[back], "the acknowledged number")
    expected[way] = sequence + len(payload) + bool(flags & 3)
    print(*words)


for kind, order, body in blocks(open(sys.argv[1], "rb").read()):
    if kind == 0x0A0D0D0A:
        print("section")
        check(body[4:8] == struct.pack(order + "HH", 1, 0), "the version")
    elif kind == 1:
        link, _, snap = struct.unpack(order + "HHI", body[:8])
        check((link, snap) == (101, 0), "the interface")
        check(dict(options(order, body[8:]))[9] == b"\x09", "nanoseconds")
    elif kind == 6:
        _, high, low, size, original = struct.unpack(order + "5I", body[:20])
        check(size == original, "a packet is cut")
        time = (high << 32 | low) / 1e9
        check(1.6e9 < time < 4e9, f"the time {time}")
        rest = body[20 + (size + 3) // 4 * 4 :]
        for code, value in options(order, rest) if rest else []:
            check(code == 1, f"option {code}")
            print("comment", value.decode())
        show(body[20 : 20 + size])
    else:
        sys.exit(f"wrong: block of kind {kind}")
