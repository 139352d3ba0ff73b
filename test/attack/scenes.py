"""Packets of the attack suite, made by scapy: sent from a container or a host, in the namespace that runs this.

usage: scenes.py WHAT ARGUMENTS...; prints one JSON line: how many packets were sent. Bounded.
"""

import json
import logging
import random
import sys

logging.getLogger("scapy").setLevel(logging.ERROR)
from scapy.all import GRE, ICMP, IP, TCP, UDP, Ether, ICMPv6EchoRequest, ICMPv6NIQueryNOOP, IPv6, Raw, conf  # noqa: E402
from scapy.all import ICMPv6PacketTooBig, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop  # noqa: E402
from scapy.all import IPv6ExtHdrRouting, raw  # noqa: E402
from scapy.layers.vxlan import VXLAN  # noqa: E402

DEVICE = "eth0"


def send(frames):
    out = conf.L2socket(iface=DEVICE)
    for frame in frames:
        out.send(frame)
    out.close()
    print(json.dumps(len(frames)), flush=True)


def too_big(link, source, host, peer, more, mtu, shapes):
    """Errors about the host's own flows to a peer, as an ICMP message of `source`: likely shapes first, then random ones."""
    six = ":" in source
    packet = IPv6 if six else IP
    error = ICMPv6PacketTooBig(mtu=int(mtu)) if six else ICMP(type=3, code=4, nexthopmtu=int(mtu))
    to = Ether(dst=link)
    flows = [
        UDP(sport=7946, dport=7946),
        TCP(sport=7946, dport=7946),
        TCP(sport=7947, dport=40000),
        TCP(sport=40000, dport=7947),
        UDP(sport=50000, dport=4789),
        ICMPv6EchoRequest(id=1, seq=1) if six else ICMP(type=8, id=1, seq=1),
    ]
    frames = []
    for inner in flows:
        for a, b in ((host, peer), (peer, host), (source, peer), (peer, source), (host, source)):
            quoted = packet(src=a, dst=b) / inner
            # The first is what the router may take for a flow that the error is about.
            frames.append(to / packet(src=source, dst=peer) / inner)
            for outer in (host, peer):
                frames.append(to / packet(src=source, dst=outer) / error / quoted)
    at = random.Random(5)
    addresses = [source, host, peer, *more.split(",")]
    for _ in range(int(shapes)):
        inner = at.choice(flows)
        varied = {} if six else {"id": at.randrange(65536)}
        quoted = packet(src=at.choice(addresses), dst=at.choice(addresses), **varied) / inner
        about = error / quoted / Raw(bytes(at.randrange(64)))
        frames.append(to / packet(src=at.choice([source, peer, host]), dst=at.choice([host, peer])) / about)
    send(frames)


def too_big_in_fragments(link, source, host, peer, mtu):
    """The same about a ping of the host to a peer, in two fragments: the first hides more or less of what it is about."""
    quoted = IPv6(src=host, dst=peer) / ICMPv6EchoRequest(id=1, seq=1)
    whole = raw(IPv6(src=source, dst=host) / ICMPv6PacketTooBig(mtu=int(mtu)) / quoted / Raw(bytes(64)))[40:]
    frames = []
    for n, size in enumerate((8, 16, 40, 48, 56, 96)):
        for offset, part in ((0, whole[:size]), (size // 8, whole[size:])):
            head = IPv6ExtHdrFragment(nh=58, id=n, offset=offset, m=offset == 0)
            frames.append(Ether(dst=link) / IPv6(src=source, dst=host) / head / Raw(part))
    send(frames)


def other_protocols(link, source, target, mark):
    """What no rule names: other IP protocols and rare ICMP types, to one container; `mark` is in each."""
    data = Raw(bytes.fromhex(mark))
    if ":" in source:
        return send(other_protocols6(Ether(dst=link) / IPv6(src=source, dst=target), data))
    to = Ether(dst=link) / IP(src=source, dst=target)
    frames = [
        to / GRE(proto=0x0800) / IP(src=source, dst=target) / data,
        to / IP(src=source, dst=target) / UDP(sport=7, dport=7) / data,
        Ether(dst=link) / IP(src=source, dst=target, proto=2) / data,
        to / ICMP(type=17) / data,
        Ether(dst=link) / IP(src=source, dst=target, proto=132) / data,
        Ether(dst=link) / IP(src=source, dst=target, proto=50) / data,
        Ether(dst=link) / IP(src=source, dst=target, proto=112) / data,
        Ether(dst=link) / IP(src=source, dst=target, proto=89) / data,
    ]
    send(frames)


def other_protocols6(to, data):
    def numbered(number):
        frame = to.copy()
        frame[IPv6].nh = number
        return frame / data

    datagram = UDP(sport=7, dport=7) / data
    return [
        to / GRE(proto=0x86DD) / IPv6(src=to[IPv6].src, dst=to[IPv6].dst) / data,
        to / IPv6(src=to[IPv6].src, dst=to[IPv6].dst) / datagram,
        to / IPv6ExtHdrHopByHop() / datagram,
        to / IPv6ExtHdrDestOpt() / datagram,
        to / IPv6ExtHdrRouting(addresses=[to[IPv6].src], segleft=1) / datagram,
        to / ICMPv6NIQueryNOOP() / data,
        *(numbered(number) for number in (132, 50, 112, 89, 103, 135, 253)),
    ]


def tunnel(link, source, host, vni, inner):
    """A frame in VXLAN to a host, from any source address."""
    frame = Ether(dst=link) / IP(src=source, dst=host) / UDP(sport=50000, dport=4789, chksum=0)
    send([frame / VXLAN(vni=int(vni), flags=8) / Raw(bytes.fromhex(inner))] * 5)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
