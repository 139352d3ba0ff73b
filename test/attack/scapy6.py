"""The kinds of IPv6 packets that a container must not send, made by scapy: what is forged does not depend on our own builders.

usage: scapy6.py PLACE, a JSON of the parties below; runs in the attacker's namespace. Prints {kind: mark}.

Each frame has its kind's mark, which test/lab/packets/frames.ts reads: in the payload, or in the traffic class and flow label
of its IPv6 header.
"""

import json
import logging
import socket
import struct
import sys
from itertools import chain, permutations

logging.getLogger("scapy").setLevel(logging.ERROR)
from scapy.all import conf, raw  # noqa: E402
from scapy.layers.dhcp6 import DHCP6_Advertise, DHCP6_RelayForward, DHCP6_RelayReply, DHCP6_Reply  # noqa: E402
from scapy.layers.dhcp6 import DHCP6_Request, DHCP6_Solicit, DHCP6OptClientId, DHCP6OptRelayMsg, DUID_LL  # noqa: E402
from scapy.layers.inet import IP, TCP, UDP  # noqa: E402
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6HAADRequest  # noqa: E402
from scapy.layers.inet6 import ICMPv6MLDMultAddrRec, ICMPv6MLDone, ICMPv6MLQuery, ICMPv6MLQuery2  # noqa: E402
from scapy.layers.inet6 import ICMPv6MLReport, ICMPv6MLReport2, ICMPv6MPSol, ICMPv6MRD_Advertisement  # noqa: E402
from scapy.layers.inet6 import ICMPv6ND_INDSol, ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6ND_RA, ICMPv6ND_Redirect  # noqa: E402
from scapy.layers.inet6 import ICMPv6ND_RS, ICMPv6NDOptDstLLAddr, ICMPv6NDOptMTU, ICMPv6NDOptPrefixInfo  # noqa: E402
from scapy.layers.inet6 import ICMPv6NDOptRDNSS, ICMPv6NDOptRouteInfo, ICMPv6NDOptSrcLLAddr, ICMPv6NIQueryNOOP  # noqa: E402
from scapy.layers.inet6 import ICMPv6NIReplyNOOP, ICMPv6PacketTooBig, ICMPv6ParamProblem, ICMPv6TimeExceeded  # noqa: E402
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop  # noqa: E402
from scapy.layers.inet6 import IPv6ExtHdrRouting, IPv6ExtHdrSegmentRouting, Jumbo, RouterAlert  # noqa: E402
from scapy.layers.ipsec import AH  # noqa: E402
from scapy.layers.l2 import ARP, GRE, LLC, SNAP, Dot1AD, Dot1Q, Dot3, Ether  # noqa: E402
from scapy.layers.vxlan import VXLAN  # noqa: E402
from scapy.packet import Raw  # noqa: E402
from scapy.utils6 import in6_getnsma, in6_getnsmac, in6_mactoifaceid  # noqa: E402

DEVICE = "eth0"
PORT = 7000
ALL_NODES = ("ff02::1", "33:33:00:00:00:01")
ALL_ROUTERS = ("ff02::2", "33:33:00:00:00:02")
LISTENERS = ("ff02::16", "33:33:00:00:00:16")
DHCP = ("ff02::1:2", "33:33:00:01:00:02")
UNKNOWN_MAC = "ee:00:00:00:00:01"
SMALL_MTU = 1280


class Craft:
    """Packets of the attacker to one victim; `other` is whom it plays. Each has the mark that is set when it is made."""

    def __init__(self, place, victim, other):
        self.me, self.gateway, self.tenant, self.mark = (place[of] for of in ("me", "gateway", "tenant", "first"))
        self.victim, self.other = victim, other
        self.mine = self.me["address"]

    @property
    def data(self):
        return Raw(b"vxmark" + struct.pack("!H", self.mark))

    def ip(self, src=None, dst=None, **more):
        label = {"tc": 0xB7, "fl": 0xA0000 | self.mark}
        return IPv6(src=src or self.mine, dst=dst or self.victim["address"], **label, **more)

    def ether(self, **more):
        return Ether(**{"src": self.me["mac"], "dst": self.victim["mac"], **more})

    def udp(self, sport=PORT, dport=PORT):
        return UDP(sport=sport, dport=dport) / self.data

    def to(self, message, src=None, mac=None):
        return [self.ether(src=mac or self.me["mac"]) / self.ip(src) / message]

    def group(self, group, message, src=None):
        address, mac = group
        return [self.ether(dst=mac) / self.ip(src, address, hlim=255) / message]

    def solicit(self, target, options, src=None):
        address = in6_getnsma(socket.inet_pton(socket.AF_INET6, target))
        message = ICMPv6ND_NS(tgt=target)
        for option in options:
            message /= option
        return self.group((socket.inet_ntop(socket.AF_INET6, address), in6_getnsmac(address)), message, src)

    def advertise(self, target, mac, group=None, **flags):
        message = ICMPv6ND_NA(tgt=target, **flags) / ICMPv6NDOptDstLLAddr(lladdr=mac)
        return self.group(group or (self.victim["address"], self.victim["mac"]), message)

    def listening(self, message, src=None):
        return self.group(LISTENERS, IPv6ExtHdrHopByHop(options=[RouterAlert()]) / message, src)

    def about(self, error, src=None):
        """An error about a ping between two others, which was never sent."""
        quoted = IPv6(src=self.victim["address"], dst=self.other["address"]) / ICMPv6EchoRequest()
        return self.to(error / quoted / self.data, src)

    def whole(self, message, src=None):
        """The bytes of a message behind its IPv6 header, with its checksum."""
        return raw(self.ip(src) / message)[40:]

    def fragment(self, part, nh, offset=0, more=1, src=None):
        return self.ether() / self.ip(src) / IPv6ExtHdrFragment(nh=nh, id=self.mark, offset=offset, m=more) / Raw(part)

    def harmless(self, part, nh, offset=0, more=1):
        """A fragment that may pass, without a mark."""
        head = IPv6ExtHdrFragment(nh=nh, id=self.mark, offset=offset, m=more)
        return self.ether() / IPv6(src=self.mine, dst=self.victim["address"]) / head / Raw(part)


def link_local(mac):
    return "fe80::" + in6_mactoifaceid(mac)


def sources(c):
    mac, other, gateway = c.me["mac"], c.other, c.gateway
    yield "source address of another container", c.to(c.udp(), other["address"])
    yield "source address and MAC of another container", c.to(c.udp(), other["address"], other["mac"])
    yield "source MAC of another container", c.to(c.udp(), mac=other["mac"])
    yield "source MAC of the gateway", c.to(c.udp(), mac=gateway["mac"])
    yield "unknown source MAC", c.to(c.udp(), mac=UNKNOWN_MAC)
    yield "source address of the gateway", c.to(c.udp(), gateway["address"])
    yield "source address of the victim", c.to(c.udp(), c.victim["address"])
    yield "source address in another subnet", c.to(c.udp(), "fd00:77::2")
    yield "source address from outside", c.to(c.udp(), "2001:db8::1")
    yield "source address ::", c.to(c.udp(), "::")
    yield "source address ::1", c.to(c.udp(), "::1")
    yield "link-local source of its own MAC", c.to(c.udp(), link_local(mac))
    yield "link-local source of another", c.to(c.udp(), link_local(other["mac"]))
    yield "multicast source address", c.to(c.udp(), "ff02::1")
    yield "source address mapped from IPv4", c.to(c.udp(), "::ffff:10.6.0.2")
    yield "TCP of another's address", c.to(TCP(sport=PORT, dport=PORT, flags="S") / c.data, other["address"])
    yield "echo request of another's address", c.to(ICMPv6EchoRequest(data=raw(c.data)), other["address"])
    yield "echo reply of the gateway's address", c.to(ICMPv6EchoReply(data=raw(c.data)), gateway["address"])


def poison(c):
    """Another's address is at the attacker's MAC."""
    return ICMPv6ND_NA(tgt=c.other["address"], R=0, S=1, O=1) / ICMPv6NDOptDstLLAddr(lladdr=c.me["mac"])


def route(c, lifetime=1800):
    """The attacker is the router, gives addresses and lowers the MTU."""
    message = ICMPv6ND_RA(routerlifetime=lifetime, prf=1) / ICMPv6NDOptSrcLLAddr(lladdr=c.me["mac"])
    message /= ICMPv6NDOptMTU(mtu=SMALL_MTU) / ICMPv6NDOptPrefixInfo(prefix="fd00:bad::", prefixlen=64, L=1, A=1)
    return message / ICMPv6NDOptRouteInfo(prefix="2001:db8::", plen=32, rtlifetime=600) / ICMPv6NDOptRDNSS(dns=[c.mine])


def neighbours(c):
    mac, other, gateway, target = c.me["mac"], c.other["address"], c.gateway["address"], c.victim["address"]
    own, foreign = (ICMPv6NDOptSrcLLAddr(lladdr=of) for of in (mac, c.other["mac"]))
    yield "solicitation of another's address", c.solicit(target, [own], other)
    yield "solicitation of the gateway's address", c.solicit(target, [own], gateway)
    yield "solicitation with another's MAC", c.solicit(target, [foreign])
    yield "solicitation with its own MAC, then another's", c.solicit(target, [own, foreign])
    yield "duplicate detection of the victim's address", c.solicit(target, [], "::")
    yield "duplicate detection of its own address", c.solicit(c.mine, [], "::")
    yield "advertisement of another's address", c.advertise(other, mac, R=0, S=1, O=1)
    yield "advertisement of another's address to all", c.advertise(other, mac, ALL_NODES, R=0, S=0, O=1)
    yield "advertisement of the victim's own address", c.advertise(target, mac, ALL_NODES, R=0, S=0, O=1)
    yield "advertisement of the gateway to all", c.advertise(gateway, mac, ALL_NODES, R=1, S=0, O=1)
    yield "advertisement with another's MAC", c.advertise(c.mine, c.other["mac"], R=0, S=1, O=1)
    yield "inverse solicitation", c.group(ALL_NODES, ICMPv6ND_INDSol() / own / ICMPv6NDOptDstLLAddr(lladdr=mac))


def routers(c):
    mac, gateway, local = c.me["mac"], c.gateway["address"], link_local(c.me["mac"])
    redirect = ICMPv6ND_Redirect(tgt=c.mine, dst=c.other["address"]) / ICMPv6NDOptDstLLAddr(lladdr=mac)
    yield "router solicitation", c.group(ALL_ROUTERS, ICMPv6ND_RS() / ICMPv6NDOptSrcLLAddr(lladdr=mac))
    yield "router advertisement", c.group(ALL_NODES, route(c), local)
    yield "router advertisement of its own address, to one", c.to(route(c))
    yield "router advertisement that the gateway leaves", c.group(ALL_NODES, route(c, 0), gateway)
    yield "redirect of the gateway", c.to(redirect, gateway)
    yield "redirect of its own link-local address", c.to(redirect, local)
    yield "multicast query, version 1", c.listening(ICMPv6MLQuery(), local)
    yield "multicast query, version 2", c.listening(ICMPv6MLQuery2(), local)
    yield "multicast report, version 1", c.listening(ICMPv6MLReport(mladdr="ff02::fb"), local)
    records = [ICMPv6MLDMultAddrRec(rtype=4, dst="ff02::fb")]
    yield "multicast report, version 2", c.listening(ICMPv6MLReport2(records=records))
    yield "multicast listener that leaves", c.group(ALL_ROUTERS, ICMPv6MLDone(mladdr="ff02::fb"))
    yield "multicast router", c.group(ALL_NODES, ICMPv6MRD_Advertisement(), local)
    yield "mobile prefix solicitation", c.to(ICMPv6MPSol())
    yield "home agent discovery", c.to(ICMPv6HAADRequest())


def messages(c):
    gateway = c.gateway["address"]
    yield "node information query", c.to(ICMPv6NIQueryNOOP() / c.data)
    yield "node information reply", c.to(ICMPv6NIReplyNOOP() / c.data)
    yield "packet too big about others", c.about(ICMPv6PacketTooBig(mtu=SMALL_MTU))
    yield "packet too big about others, of the gateway", c.about(ICMPv6PacketTooBig(mtu=SMALL_MTU), gateway)
    yield "unreachable about others", c.about(ICMPv6DestUnreach(code=1))
    yield "time exceeded about others", c.about(ICMPv6TimeExceeded())
    yield "parameter problem about others", c.about(ICMPv6ParamProblem(code=1))
    asked, answer = UDP(sport=546, dport=547), UDP(sport=547, dport=546)
    client = DHCP6OptClientId(duid=DUID_LL(lladdr=c.me["mac"]))
    relayed = DHCP6OptRelayMsg(message=DHCP6_Solicit(trid=1) / client)
    between, ends = UDP(sport=547, dport=547), {"linkaddr": c.mine, "peeraddr": link_local(c.victim["mac"])}
    yield "DHCPv6 solicit", c.group(DHCP, asked / DHCP6_Solicit(trid=1) / client)
    yield "DHCPv6 request to a server", c.to(UDP(sport=PORT, dport=547) / DHCP6_Request(trid=1) / client)
    yield "DHCPv6 advertise", c.to(answer / DHCP6_Advertise(trid=1) / client)
    yield "DHCPv6 reply of the gateway", c.to(answer / DHCP6_Reply(trid=1) / client, gateway)
    yield "DHCPv6 relay forward", c.to(between / DHCP6_RelayForward(**ends) / relayed)
    yield "DHCPv6 relay reply", c.to(between / DHCP6_RelayReply(**ends) / relayed)


def headers(c):
    other = [c.other["address"]]
    options = {"hop-by-hop options": IPv6ExtHdrHopByHop, "destination options": IPv6ExtHdrDestOpt}
    for name, header in options.items():
        yield name, c.to(header() / c.udp())
        yield f"{name}, then a forged advertisement", c.to(header() / poison(c))
        yield f"{name}, then DHCPv6", c.to(header() / UDP(sport=547, dport=546) / DHCP6_Reply(trid=1))
    for kind in (0, 2):
        yield f"routing header {kind}", c.to(IPv6ExtHdrRouting(type=kind, addresses=other, segleft=1) / c.udp())
    yield "routing header 4", c.to(IPv6ExtHdrSegmentRouting(addresses=other, segleft=0) / c.udp())
    yield "authentication header", c.to(AH(nh=17, spi=1, seq=1, icv=bytes(12)) / c.udp())
    yield "authentication header, then an advertisement", c.to(AH(nh=58, spi=1, seq=1, icv=bytes(12)) / poison(c))
    nested = IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / IPv6ExtHdrRouting(addresses=other, segleft=0)
    yield "four nested headers, then an advertisement", c.to(nested / IPv6ExtHdrDestOpt() / poison(c))
    for name, number in {"mobility": 135, "host identity": 139, "shim6": 140, "experimental": 253, "no": 59}.items():
        yield f"{name} header", [c.ether() / c.ip(nh=number) / c.data]
    jumbo = IPv6ExtHdrHopByHop(options=[Jumbo(jumboplen=70000)])
    yield "jumbogram", [c.ether() / c.ip(plen=0) / jumbo / c.udp()]
    yield "longer than its frame", [c.ether() / c.ip(plen=1200) / c.udp()]


def fragments(c):
    other = c.other["address"]
    datagram = c.whole(UDP(sport=PORT, dport=PORT) / Raw(bytes(24)), other)
    answer = c.whole(UDP(sport=547, dport=546) / DHCP6_Reply(trid=1) / Raw(bytes(4)))
    segment = c.whole(TCP(sport=PORT, dport=PORT, flags="S"))
    advertisement = c.whole(poison(c))
    yield "atomic fragment of a forged advertisement", [c.fragment(advertisement, 58, more=0)]
    yield "atomic fragment of a router advertisement", [c.fragment(c.whole(route(c)), 58, more=0)]
    yield "atomic fragment of DHCPv6", [c.fragment(answer, 17, more=0)]
    yield "atomic fragment of another's address", [c.fragment(datagram, 17, more=0, src=other)]
    yield "first fragment of another's address", [c.fragment(datagram, 17, src=other)]
    yield "later fragment alone, of another's address", [c.fragment(datagram, 17, 3, 0, other)]
    yield "later fragment alone, of options", [c.fragment(advertisement, 60, 1, 0)]
    yield "first fragment of options alone", [c.fragment(raw(IPv6ExtHdrDestOpt(nh=58)), 60)]
    yield "first fragment with a part of a TCP header", [c.fragment(segment[:8], 6)]
    yield "first fragment without a UDP header", [c.fragment(b"", 17)]
    yield "overlapping first fragments, the second DHCPv6", [c.harmless(datagram, 17), c.fragment(answer, 17)]
    yield "advertisement in fragments", [
        c.fragment(advertisement[:24], 58),
        c.harmless(advertisement[24:], 58, 3, 0),
    ]
    inner = IPv6ExtHdrFragment(nh=58, id=c.mark) / Raw(advertisement)
    yield "two fragment headers", c.to(IPv6ExtHdrFragment(id=c.mark) / inner)


def tunnels(c):
    six = IPv6(src=c.other["address"], dst=c.victim["address"])
    four = IP(src="10.6.0.99", dst="10.6.0.98")
    foreign = c.tenant["link"]
    frame = Ether(src=UNKNOWN_MAC, dst=foreign["mac"]) / IPv6(src=c.mine, dst=foreign["address"])
    outer = UDP(sport=PORT, dport=4789) / VXLAN(vni=c.tenant["vni"], flags=8) / frame
    yield "IPv6 in IPv6", c.to(six / c.udp())
    yield "IPv4 in IPv6", c.to(four / c.udp())
    yield "IPv6 in IPv4", [c.ether() / four / six / c.udp()]
    yield "GRE", c.to(GRE(proto=0x86DD) / six / c.udp())
    yield "Ethernet in GRE", c.to(GRE(proto=0x6558) / frame / c.udp())
    yield "Ethernet in IP", [c.ether() / c.ip(nh=97) / Raw(b"\x30\x00") / frame / c.udp()]
    yield "VXLAN to a container", c.to(outer / c.udp())
    yield "VXLAN to all", c.group(ALL_NODES, outer / c.udp())


def links(c):
    snap = LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / SNAP(OUI=0, code=0x86DD)
    dot3 = Dot3(src=c.me["mac"], dst=c.victim["mac"])
    question = ARP(op=2, hwsrc=c.me["mac"], psrc="10.6.0.1", hwdst=c.victim["mac"], pdst="10.6.0.2")
    for name, message in {"": c.udp, " around an advertisement": lambda: poison(c) / c.data}.items():
        yield f"VLAN tag{name}", [c.ether() / Dot1Q(vlan=5) / c.ip() / message()]
        yield f"VLAN tag 0{name}", [c.ether() / Dot1Q(vlan=0) / c.ip() / message()]
        yield f"two VLAN tags{name}", [c.ether() / Dot1AD(vlan=5) / Dot1Q(vlan=6) / c.ip() / message()]
        yield f"LLC and SNAP{name}", [dot3 / snap / c.ip() / message()]
    for name, kind in {"IPv4": 0x0800, "ARP": 0x0806, "an unknown type": 0x88B5}.items():
        yield f"in a frame of {name}", [c.ether(type=kind) / c.ip() / c.udp()]
    yield "IPv4 in a frame of IPv6", [c.ether(type=0x86DD) / IP(src="10.6.0.99", dst="10.6.0.98") / c.udp()]
    yield "ARP in a frame of IPv6", [c.ether(type=0x86DD) / question / c.data]
    for version in (4, 7):
        yield f"version {version}", [c.ether() / c.ip(version=version) / c.udp()]


GROUPS = (sources, neighbours, routers, messages, headers, fragments, tunnels, links)


def main(place):
    out = conf.L2socket(iface=DEVICE)
    marks = {}
    for victim, other in permutations(place["victims"]):
        c = Craft(place, victim, other)
        # Each kind is made while its mark is set.
        for name, frames in chain.from_iterable(group(c) for group in GROUPS):
            marks[name] = c.mark
            made = [raw(frame) for frame in frames]
            for _ in range(place["packets"]):
                for frame in made:
                    out.send(frame)
            c.mark += 1
    out.close()
    print(json.dumps(marks), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
