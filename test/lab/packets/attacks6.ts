// The attack matrix over IPv6: what a container may attempt. Each kind builds the frames of one attempt.

import type { Mac } from '#model/mac.ts'
import { parseIpv6 } from '#model/ipv6.ts'
import { JUMBO, patched, type Attack } from './attacks.ts'
import { Craft, DATA_PORT, FOREIGN, GROUP, ordinary6, type Party6, type Place6, type Target } from './craft6.ts'
import { discoveryAttacks6, routerAdvertisement } from './discovery-attacks6.ts'
import {
  ALL_NODES,
  arp,
  BROADCAST,
  ETHER,
  ipv4,
  labelled,
  linkLocal,
  llc,
  u16,
  udp,
  UDP,
  vlanTag,
  vxlan
} from './frames.ts'
import {
  addressBytes,
  ALL_NODES_MAC,
  authentication,
  discovery,
  fragment,
  frame6,
  jumboOption,
  linkOption,
  message6,
  NEXT,
  options,
  OVERRIDE,
  packet,
  routing0,
  SOLICITED,
  TARGET_LINK,
  tcp6,
  TYPE,
  udp6
} from './frames6.ts'

const [CLIENT, SERVER] = [546, 547]
const VXLAN_PORT = 4_789
const bytes = (text: string): Buffer => addressBytes(parseIpv6(text))

/** More legitimate traffic than `ordinary6`, a frame each, by what it is. */
export function legitimate6(me: Party6, victim: Party6): Readonly<Record<string, Attack['frames']>> {
  const ends = { from: me.address, to: victim.address }
  const frame = (next: number, payload: Buffer, mark?: Buffer): Buffer[] => [
    frame6({ to: victim.mac, from: me.mac }, packet({ ...ends, next }, payload), mark)
  ]
  const advertise = (flags: number, option: Buffer): Buffer =>
    message6(ends, TYPE.advertisement, discovery(flags, me.address, option))
  const heard = { from: victim.address, to: me.address }
  const quoted = packet({ ...heard, next: NEXT.udp }, udp6(heard, [1, 2], Buffer.alloc(4)))
  return {
    'a TCP segment': m => frame(NEXT.tcp, tcp6(ends, [DATA_PORT, DATA_PORT], m)),
    'an echo request': m => frame(NEXT.icmp6, message6(ends, TYPE.echoRequest, Buffer.concat([Buffer.alloc(4), m]))),
    'the first fragment of a datagram': (m, n) => {
      const first = udp6(ends, [DATA_PORT, DATA_PORT], Buffer.concat([m, Buffer.alloc(8)]))
      return frame(NEXT.fragment, Buffer.concat([fragment({ next: NEXT.udp, id: n, more: true }), first]))
    },
    'a later fragment': (m, n) =>
      frame(NEXT.fragment, Buffer.concat([fragment({ next: NEXT.udp, id: n, offset: 3 }), m])),
    'an error about what it was sent': m =>
      frame(NEXT.icmp6, message6(ends, TYPE.unreachable, Buffer.concat([Buffer.alloc(4), quoted, m]))),
    'an advertisement of its own': m => frame(NEXT.icmp6, advertise(OVERRIDE, linkOption(TARGET_LINK, me.mac)), m),
    'the same without a MAC': m => frame(NEXT.icmp6, advertise(SOLICITED, Buffer.alloc(0)), m)
  }
}

/** Attacks from a container on others of its network, its gateway, other tenants and its host. */
export function containerAttacks6(w: Place6): readonly Attack[] {
  return [...sourceAttacks(w), ...discoveryAttacks6(w), ...headerAttacks(w), ...tunnelAttacks(w), ...linkAttacks(w)]
}

function sourceAttacks(w: Place6): readonly Attack[] {
  const { me, victim, other, gateway, host } = w
  const c = new Craft(w)
  const sent = (m: Buffer): Buffer => c.ip(NEXT.udp, c.data(m))
  return [
    { kind: '6: unknown source MAC', frames: m => [c.frame(sent(m), { from: FOREIGN })] },
    { kind: '6: source MAC of another container', frames: m => [c.frame(sent(m), { from: other.mac })] },
    { kind: '6: source address of another container', frames: c.from(other.address) },
    { kind: '6: source MAC and address of another container', frames: ordinary6(other, victim) },
    { kind: '6: source address of the gateway', frames: c.from(gateway.address) },
    { kind: '6: source address of the host', frames: c.from(host.address) },
    { kind: '6: source address from outside', frames: c.from(bytes('2001:db8::1')) },
    { kind: '6: source address in the next subnet', frames: c.from(patched(me.address, 7, (me.address[7] ?? 0) ^ 1)) },
    { kind: '6: link-local source of its own MAC', frames: c.from(linkLocal(me.mac)) },
    { kind: '6: link-local source of another', frames: c.from(linkLocal(other.mac), GROUP) },
    { kind: '6: source address ::', frames: c.from(Buffer.alloc(16), GROUP) },
    { kind: '6: source address ::1', frames: c.from(bytes('::1')) },
    { kind: '6: source address mapped from IPv4', frames: c.from(bytes('::ffff:10.1.0.2')) },
    { kind: '6: multicast source address', frames: c.from(ALL_NODES) },
    {
      kind: '6: fragments of a spoofed source',
      frames: c.inFragments(NEXT.udp, m => c.data(m), { ...c.own, from: other.address })
    }
  ]
}

function headerAttacks(w: Place6): readonly Attack[] {
  const { me, other } = w
  const c = new Craft(w)
  const mine = linkOption(TARGET_LINK, me.mac)
  const poison = message6(c.own, TYPE.advertisement, discovery(SOLICITED | OVERRIDE, other.address, mine))
  const route = message6(c.own, TYPE.routerAdvertisement, routerAdvertisement(w))
  const genuine = message6(c.own, TYPE.advertisement, discovery(OVERRIDE, me.address, mine))
  const echo = message6(c.own, TYPE.echoRequest, Buffer.alloc(8))
  const segment = (m: Buffer): Buffer => tcp6(c.own, [DATA_PORT, DATA_PORT], m)
  const answer = c.data(Buffer.alloc(8), [SERVER, CLIENT])
  const { hopByHop, routing, destination } = NEXT
  const before: readonly (readonly [name: string, number: number, header: (next: number) => Buffer])[] = [
    ['hop-by-hop options', hopByHop, options],
    ['routing header 0', routing, next => routing0(next, other.address, 0)],
    ['destination options', destination, options],
    ['authentication header', NEXT.authentication, authentication]
  ]
  return [
    ...before.flatMap(([name, number, header]): Attack[] => [
      { kind: `6: ${name}`, frames: (m, n) => c.behind(number, header(NEXT.udp), c.data(m))(m, n) },
      { kind: `6: ${name}, then an echo request`, frames: c.behind(number, header(NEXT.icmp6), echo) },
      { kind: `6: ${name}, then DHCPv6`, frames: c.behind(number, header(NEXT.udp), answer) },
      { kind: `6: ${name}, then a forged advertisement`, frames: c.behind(number, header(NEXT.icmp6), poison) },
      { kind: `6: ${name}, then a router advertisement`, frames: c.behind(number, header(NEXT.icmp6), route) }
    ]),
    {
      kind: '6: routing header 0 with a hop to go',
      frames: (m, n) => c.behind(routing, routing0(NEXT.udp, other.address, 1), c.data(m))(m, n)
    },
    {
      kind: '6: three headers, then a forged advertisement',
      frames: c.behind(
        hopByHop,
        Buffer.concat([options(destination), options(routing), routing0(NEXT.icmp6, other.address, 0)]),
        poison
      )
    },
    { kind: '6: DHCPv6 in fragments', frames: c.inFragments(NEXT.udp, m => c.data(m, [SERVER, CLIENT])) },
    { kind: '6: forged advertisement in fragments', frames: c.inFragments(NEXT.icmp6, () => poison) },
    { kind: '6: its own advertisement in fragments', frames: c.inFragments(NEXT.icmp6, () => genuine) },
    { kind: '6: router advertisement in fragments', frames: c.inFragments(NEXT.icmp6, () => route) },
    {
      kind: '6: router advertisement in an atomic fragment',
      frames: (m, n) => c.behind(NEXT.fragment, fragment({ next: NEXT.icmp6, id: n }), route)(m, n)
    },
    {
      kind: '6: DHCPv6 in an atomic fragment',
      frames: (m, n) => c.behind(NEXT.fragment, fragment({ next: NEXT.udp, id: n }), answer)(m, n)
    },
    {
      kind: '6: router advertisement that begins in the second fragment',
      frames: (m, n) => {
        const head = fragment({ next: destination, id: n, more: true })
        const tail = Buffer.concat([fragment({ next: destination, id: n, offset: 1 }), route])
        return [...c.behind(NEXT.fragment, head, options(NEXT.icmp6))(m, n), c.frame(c.ip(NEXT.fragment, tail))]
      }
    },
    {
      kind: '6: overlapping first fragments, the second to a DHCPv6 client',
      frames: (m, n) => {
        const head = fragment({ next: NEXT.udp, id: n, more: true })
        const parts = [c.data(Buffer.alloc(8)), c.data(m, [DATA_PORT, CLIENT])]
        return parts.map(part => c.frame(c.ip(NEXT.fragment, Buffer.concat([head, part]))))
      }
    },
    {
      kind: '6: fragment behind hop-by-hop options',
      frames: (m, n) => {
        const headers = Buffer.concat([options(NEXT.fragment), fragment({ next: NEXT.icmp6, id: n })])
        return c.behind(hopByHop, headers, poison)(m, n)
      }
    },
    {
      kind: '6: two fragment headers',
      frames: (m, n) => {
        const headers = [fragment({ next: NEXT.fragment, id: n }), fragment({ next: NEXT.icmp6, id: n })]
        return c.behind(NEXT.fragment, Buffer.concat(headers), poison)(m, n)
      }
    },
    { kind: '6: unknown next header', frames: m => [c.frame(c.ip(NEXT.unknown, m))] },
    { kind: '6: no next header', frames: m => [c.frame(c.ip(NEXT.none, m))] },
    { kind: '6: version 4', frames: m => [c.frame(c.ip(NEXT.tcp, segment(m), { version: 4 }))] },
    { kind: '6: version 7', frames: m => [c.frame(c.ip(NEXT.tcp, segment(m), { version: 7 }))] },
    {
      kind: '6: header cut short',
      frames: m => [c.frame(Buffer.concat([c.ip(NEXT.none, Buffer.alloc(0)).subarray(0, 30), m]))]
    },
    { kind: '6: longer than its frame', frames: m => [c.frame(c.ip(NEXT.tcp, segment(m), { length: 900 }))] },
    {
      kind: '6: jumbogram',
      frames: m => [c.frame(c.ip(hopByHop, Buffer.concat([jumboOption(NEXT.udp, 70_000), c.data(m)]), { length: 0 }))]
    }
  ]
}

function tunnelAttacks(w: Place6): readonly Attack[] {
  const { me, victim, other, gateway, host, foreign } = w
  const c = new Craft(w)
  const inner = (m: Buffer): Buffer => c.ip(NEXT.udp, c.data(m), { from: other.address })
  const inner4 = (m: Buffer): Buffer => ipv4({ from: me.address4 ?? 1, to: victim.address4 ?? 2, protocol: UDP }, m)
  const vxlanTo = (to: Buffer, mark: Buffer): Buffer => {
    const [frame = mark] = ordinary6({ ...me, mac: FOREIGN }, foreign.victim)(mark, 0)
    return udp6({ ...c.own, to }, [DATA_PORT, VXLAN_PORT], vxlan({ vni: foreign.vni }, frame))
  }
  const wrapped = ({ address: to, mac }: Target): Attack['frames'] => {
    return m => [c.frame(c.ip(NEXT.udp, vxlanTo(to, m), { to }), { to: mac })]
  }
  return [
    { kind: '6: GRE', frames: m => [c.frame(c.ip(NEXT.gre, Buffer.concat([u16(0), u16(ETHER.ipv6), inner(m)])))] },
    { kind: '6: IPv6 in IPv6', frames: m => [c.frame(c.ip(NEXT.ipv6, inner(m)))] },
    { kind: '6: IPv4 in IPv6', frames: m => [c.frame(c.ip(NEXT.ipv4, inner4(m)))] },
    { kind: '6: VXLAN of its own to a container', frames: wrapped(victim) },
    { kind: '6: the same in fragments', frames: c.inFragments(NEXT.udp, m => vxlanTo(victim.address, m)) },
    { kind: '6: VXLAN to the gateway', frames: wrapped(gateway) },
    { kind: '6: VXLAN to the host, by the bridge', frames: wrapped({ address: host.address, mac: w.bridge }) }
  ]
}

function linkAttacks(w: Place6): readonly Attack[] {
  const { me, victim, other, host, foreign } = w
  const c = new Craft(w)
  const mine = linkOption(TARGET_LINK, me.mac)
  const sent = (m: Buffer): Buffer => c.ip(NEXT.udp, c.data(m))
  const poison = c.ip(NEXT.icmp6, message6(c.own, TYPE.advertisement, discovery(OVERRIDE, other.address, mine)))
  const snap = (payload: Buffer): Buffer =>
    llc({ to: victim.mac, from: me.mac }, Buffer.concat([Buffer.from('aaaa03000000', 'hex'), u16(ETHER.ipv6), payload]))
  const toHost = (mac: Mac): Attack['frames'] =>
    c.datagram([DATA_PORT, host.port], { at: { address: host.address, mac } })
  const { vlan, qinq, ipv6 } = ETHER
  return [
    { kind: '6: VLAN tag', frames: m => [c.frame(vlanTag(5, ipv6, sent(m)), { type: vlan })] },
    { kind: '6: VLAN tag 0', frames: m => [c.frame(vlanTag(0, ipv6, sent(m)), { type: vlan })] },
    {
      kind: '6: VLAN tag 0 over a forged advertisement',
      frames: m => [c.frame(vlanTag(0, ipv6, labelled(poison, m)), { type: vlan })]
    },
    {
      kind: '6: two VLAN tags',
      frames: m => [c.frame(vlanTag(5, vlan, vlanTag(6, ipv6, sent(m))), { type: qinq })]
    },
    { kind: '6: LLC and SNAP', frames: m => [snap(sent(m))] },
    { kind: '6: LLC and SNAP around a forged advertisement', frames: m => [snap(Buffer.concat([poison, m]))] },
    { kind: '6: jumbo frame', frames: m => [c.frame(sent(Buffer.concat([m, JUMBO])))] },
    { kind: '6: in a frame of IPv4', frames: m => [c.frame(sent(m), { type: ETHER.ipv4 })] },
    { kind: "6: another tenant's MAC", frames: ordinary6(me, foreign.victim) },
    {
      kind: '6: forged advertisement to another tenant',
      frames: c.advertisement(other.address, { flags: OVERRIDE, option: mine, at: foreign.victim })
    },
    { kind: "6: the host's address, by the bridge", frames: toHost(w.bridge) },
    { kind: "6: the host's address, by all nodes", frames: toHost(ALL_NODES_MAC), at: 'host' },
    {
      kind: '6: all nodes, of which the host is one',
      frames: c.datagram([DATA_PORT, host.port], { at: GROUP }),
      at: 'host'
    },
    { kind: "6: the host's address, by a reserved MAC", frames: toHost('01:80:c2:00:00:0e' as Mac) }
  ]
}

/** Of a container in a network of IPv4 alone, to another one in it. */
export function plainAttacks(plain: Party6, near: Party6): readonly Attack[] {
  const ends = { from: plain.address, to: near.address }
  const group = { from: linkLocal(plain.mac), to: ALL_NODES }
  const nd = (type: number, rest: Buffer, mark: Buffer): Buffer[] => [
    frame6(
      { to: ALL_NODES_MAC, from: plain.mac },
      packet({ ...group, next: NEXT.icmp6 }, message6(group, type, rest)),
      mark
    )
  ]
  const claim = discovery(OVERRIDE, plain.address, linkOption(TARGET_LINK, plain.mac))
  const segment = (m: Buffer): Buffer => packet({ ...ends, next: NEXT.tcp }, tcp6(ends, [DATA_PORT, DATA_PORT], m))
  return [
    { kind: 'IPv4 alone: UDP over IPv6', frames: ordinary6(plain, near) },
    { kind: 'IPv4 alone: TCP over IPv6', frames: m => [frame6({ to: near.mac, from: plain.mac }, segment(m))] },
    { kind: 'IPv4 alone: solicitation', frames: m => nd(TYPE.solicitation, discovery(0, near.address), m) },
    { kind: 'IPv4 alone: advertisement', frames: m => nd(TYPE.advertisement, claim, m) },
    { kind: 'IPv4 alone: router advertisement', frames: m => nd(TYPE.routerAdvertisement, Buffer.alloc(12), m) }
  ]
}

/** Of a container in a network of IPv6 alone, to another one in it. */
export function sixAttacks(six: Party6, near: Party6): readonly Attack[] {
  const [from, to] = [0x0a010002, 0x0a010003]
  const datagram = (m: Buffer): Buffer => ipv4({ from, to, protocol: UDP }, udp(DATA_PORT, DATA_PORT, m))
  const question = { operation: 1, fromMac: six.mac, fromAddress: from, toMac: BROADCAST, toAddress: to }
  return [
    {
      kind: 'IPv6 alone: UDP over IPv4',
      frames: m => [frame6({ to: near.mac, from: six.mac, type: ETHER.ipv4 }, datagram(m))]
    },
    {
      kind: 'IPv6 alone: ARP',
      frames: m => [frame6({ to: BROADCAST, from: six.mac, type: ETHER.arp }, Buffer.concat([arp(question), m]))]
    }
  ]
}
