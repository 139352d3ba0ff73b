"""Packets of the attack suite, made by scapy: sent from a container or a host, in the namespace that runs this.

usage: scenes.py WHAT ARGUMENTS...; prints one JSON line: how many packets were sent. Bounded.
"""

import json
import logging
import random
import sys

logging.getLogger("scapy").setLevel(logging.ERROR)
from scapy.all import GRE, ICMP, IP, TCP, UDP, Ether, Raw, conf  # noqa: E402
from scapy.layers.vxlan import VXLAN  # noqa: E402

DEVICE = "eth0"
SMALL_MTU = 600


def send(frames):
    out = conf.L2socket(iface=DEVICE)
    for frame in frames:
        out.send(frame)
    out.close()
    print(json.dumps(len(frames)), flush=True)


def fragmentation_needed(link, source, host, peer, shapes):
    """Errors about the host's own flows to a peer, as an ICMP message of `source`: likely shapes first, then random ones."""
    to = Ether(dst=link)
    flows = [
        UDP(sport=7946, dport=7946),
        TCP(sport=7946, dport=7946),
        TCP(sport=7947, dport=40000),
        TCP(sport=40000, dport=7947),
        UDP(sport=50000, dport=4789),
        ICMP(type=8, id=1, seq=1),
    ]
    frames = []
    for inner in flows:
        for a, b in ((host, peer), (peer, host), (source, peer), (peer, source), (host, source)):
            quoted = IP(src=a, dst=b) / inner
            # The first is what the router may take for a flow that the error is about.
            frames.append(to / IP(src=source, dst=peer) / inner)
            for outer in (host, peer):
                frames.append(to / IP(src=source, dst=outer) / ICMP(type=3, code=4, nexthopmtu=SMALL_MTU) / quoted)
    at = random.Random(5)
    for _ in range(int(shapes)):
        inner = at.choice(flows)
        addresses = [source, host, peer, "203.0.113.10", "10.1.0.1"]
        quoted = IP(src=at.choice(addresses), dst=at.choice(addresses), id=at.randrange(65536)) / inner
        about = ICMP(type=3, code=4, nexthopmtu=SMALL_MTU) / quoted / Raw(bytes(at.randrange(64)))
        frames.append(to / IP(src=at.choice([source, peer, host]), dst=at.choice([host, peer])) / about)
    send(frames)


def other_protocols(link, source, target, mark):
    """What no rule names: other IP protocols and rare ICMP types, to one container; `mark` is in each."""
    data = Raw(bytes.fromhex(mark))
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


def tunnel(link, source, host, vni, inner):
    """A frame in VXLAN to a host, from any source address."""
    frame = Ether(dst=link) / IP(src=source, dst=host) / UDP(sport=50000, dport=4789, chksum=0)
    send([frame / VXLAN(vni=int(vni), flags=8) / Raw(bytes.fromhex(inner))] * 5)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
