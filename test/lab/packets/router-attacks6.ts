// The attack matrix over IPv6 by a router: what a container may send to its gateway's MAC address, and past it to the bridge's.
// Nothing of it may reach a host, the underlay, another network, or the outside with a made-up source.

import { parseIpv6 } from '#model/ipv6.ts'
import type { Mac } from '#model/mac.ts'
import { patched, type Attack } from './attacks.ts'
import { Craft, DATA_PORT, FOREIGN, type Party6, type Target } from './craft6.ts'
import { ETHER, ipv4, linkLocal, u16, UDP, udp, vlanTag, vxlan } from './frames.ts'
import {
  addressBytes,
  authentication,
  discovery,
  fragment,
  frame6,
  linkOption,
  NEXT,
  options,
  OVERRIDE,
  packet,
  ROUTER,
  routing0,
  SOLICITED,
  TARGET_LINK,
  TYPE,
  udp6
} from './frames6.ts'
import { routerAdvertisement } from './discovery-attacks6.ts'
import { HOST_PORT } from './stand.ts'

const bytes = (text: string): Buffer => addressBytes(parseIpv6(text))
const [CLIENT, SERVER] = [546, 547]
const VXLAN_PORT = 4_789
const SPOOFED_PORT = 7_001
const PORTS = [DATA_PORT, HOST_PORT] as const
const HOP_LIMIT_AT = 7

export type RouterPlace6 = {
  readonly me: Party6
  /** Another container of the network. */
  readonly other: Party6
  readonly gateway: Target
  readonly bridge: Mac
  /** Outside, where the network's own traffic arrives. */
  readonly server: Buffer
  /** The host's address on the underlay, and another host's. */
  readonly host: Buffer
  readonly member: Buffer
  /** Its address of IPv4. */
  readonly member4: number
  /** More that must not be reached, by what it is. */
  readonly closed: Readonly<Record<string, Buffer>>
  /** Of other networks, by what it is: the outside may have the same. */
  readonly others: Readonly<Record<string, Buffer>>
  readonly foreign: { readonly vni: number; readonly victim: Party6 }
}

/** What may leave: it must arrive outside. */
export function egress6({ me, gateway, server }: RouterPlace6): Attack['frames'] {
  return new Craft({ me, victim: { mac: gateway.mac, address: server } }).datagram([DATA_PORT, DATA_PORT])
}

export function routerAttacks6(w: RouterPlace6): readonly Attack[] {
  return [...targetAttacks(w), ...sourceAttacks(w), ...headerAttacks(w), ...messageAttacks(w)]
}

/** A container's packets to an address, by a MAC address: the gateway's, unless another is named. */
function via(w: RouterPlace6, address: Buffer, mac = w.gateway.mac): Craft {
  return new Craft({ me: w.me, victim: { mac, address } })
}

function targetAttacks(w: RouterPlace6): readonly Attack[] {
  const own = { 'its host': w.host, 'another host': w.member, 'the gateway': w.gateway.address }
  const reserved = {
    '::': Buffer.alloc(16),
    '::1': bytes('::1'),
    ...Object.fromEntries(
      ['ff01::1', 'ff02::1', 'ff02::2', 'ff05::2', 'ff0e::1', '::ffff:192.0.2.2', '::192.0.2.2'].map(text => [
        text,
        bytes(text)
      ])
    )
  }
  const all = Object.entries<Buffer>({ ...own, ...reserved, ...w.closed })
  return [
    ...all.map(([what, to]) => ({ kind: `router: UDP to ${what}`, frames: via(w, to).datagram(PORTS) })),
    ...all.map(([what, to]) => ({
      kind: `past the router: UDP to ${what}`,
      frames: via(w, to, w.bridge).datagram(PORTS)
    })),
    {
      kind: 'router: an echo request to another host',
      frames: via(w, w.member).message(TYPE.echoRequest, Buffer.alloc(8))
    },
    {
      kind: 'past the router: UDP to the outside',
      frames: via(w, w.server, w.bridge).datagram([DATA_PORT, DATA_PORT])
    }
  ]
}

function sourceAttacks(w: RouterPlace6): readonly Attack[] {
  const sources: Readonly<Record<string, Buffer>> = {
    'another container': w.other.address,
    'the gateway': w.gateway.address,
    'its host': w.host,
    'another host': w.member,
    'the server': w.server,
    'its own link': linkLocal(w.me.mac),
    'nothing (::)': Buffer.alloc(16),
    '::1': bytes('::1'),
    'an address mapped from IPv4': bytes('::ffff:10.6.0.2'),
    'a group': bytes('ff0e::1'),
    ...w.closed,
    ...w.others
  }
  const c = via(w, w.server)
  return [
    ...Object.entries(sources).map(([what, from]) => ({
      kind: `router: to the outside from ${what}`,
      // Not the port of what may leave: without guards it would be one connection.
      frames: c.datagram([SPOOFED_PORT, DATA_PORT], { from })
    })),
    {
      kind: 'router: to the outside in fragments from another container',
      frames: c.inFragments(NEXT.udp, m => c.data(m), { ...c.own, from: w.other.address })
    },
    {
      kind: 'router: to the outside with an unknown MAC',
      frames: m => [c.frame(c.ip(NEXT.udp, c.data(m)), { from: FOREIGN })]
    },
    {
      kind: 'router: to the outside with the MAC of another container',
      frames: m => [c.frame(c.ip(NEXT.udp, c.data(m)), { from: w.other.mac })]
    }
  ]
}

/** All to another host, which would hear them on its link. */
function headerAttacks(w: RouterPlace6): readonly Attack[] {
  const c = via(w, w.member)
  const { hopByHop, routing, destination } = NEXT
  const plain = (m: Buffer): Buffer => c.ip(NEXT.udp, c.data(m, PORTS))
  const before: readonly (readonly [name: string, number: number, header: Buffer])[] = [
    ['hop-by-hop options', hopByHop, options(NEXT.udp)],
    ['routing header 0', routing, routing0(NEXT.udp, w.member, 0)],
    ['destination options', destination, options(NEXT.udp)],
    ['authentication header', NEXT.authentication, authentication(NEXT.udp)],
    ['atomic fragment', NEXT.fragment, fragment({ next: NEXT.udp, id: 1 })]
  ]
  const gateway = via(w, w.gateway.address)
  const segments = (type: number): Buffer => patched(routing0(NEXT.udp, w.member, 1), 2, type)
  const inner4 = (m: Buffer): Buffer =>
    ipv4({ from: w.me.address4 ?? 1, to: w.member4, protocol: UDP }, udp(...PORTS, m))
  const wrapped = (to: Buffer): Attack['frames'] => {
    const inner = (m: Buffer): Buffer => {
      const { foreign, me } = w
      const ends = { from: me.address, to: foreign.victim.address }
      const whole = packet({ ...ends, next: NEXT.udp }, udp6(ends, PORTS, m))
      return vxlan({ vni: foreign.vni }, frame6({ to: foreign.victim.mac, from: FOREIGN }, whole))
    }
    return m => {
      const ends = { from: w.me.address, to }
      return [gateway.frame(packet({ ...ends, next: NEXT.udp }, udp6(ends, [DATA_PORT, VXLAN_PORT], inner(m))))]
    }
  }
  return [
    ...before.map(([name, number, header]) => ({
      kind: `router: ${name}`,
      frames: (m: Buffer, n: number): readonly Buffer[] => c.behind(number, header, c.data(m, PORTS))(m, n)
    })),
    { kind: 'router: in fragments', frames: c.inFragments(NEXT.udp, m => c.data(m, PORTS)) },
    ...[0, 2, 3, 4].map(type => ({
      kind: `router: routing header ${type} with another host to go`,
      frames: (m: Buffer, n: number): readonly Buffer[] =>
        gateway.behind(routing, segments(type), udp6({ from: w.me.address, to: w.member }, PORTS, m))(m, n)
    })),
    { kind: 'router: IPv6 in IPv6', frames: m => [gateway.frame(gateway.ip(NEXT.ipv6, plain(m)))] },
    { kind: 'router: IPv4 in IPv6', frames: m => [gateway.frame(gateway.ip(NEXT.ipv4, inner4(m)))] },
    {
      kind: 'router: GRE',
      frames: m => [gateway.frame(gateway.ip(NEXT.gre, Buffer.concat([u16(0), u16(ETHER.ipv6), plain(m)])))]
    },
    { kind: 'router: ESP', frames: m => [c.frame(c.ip(50, m))] },
    { kind: 'router: SCTP', frames: m => [c.frame(c.ip(132, Buffer.concat([Buffer.alloc(12), m])))] },
    { kind: 'router: hop limit 1', frames: m => [c.frame(patched(plain(m), HOP_LIMIT_AT, 1))] },
    { kind: 'router: hop limit 2', frames: m => [c.frame(patched(plain(m), HOP_LIMIT_AT, 2))] },
    { kind: 'router: VLAN tag 0', frames: m => [c.frame(vlanTag(0, ETHER.ipv6, plain(m)), { type: ETHER.vlan })] },
    { kind: 'router: VXLAN to its host', frames: wrapped(w.host) },
    { kind: 'router: VXLAN to another host', frames: wrapped(w.member) },
    { kind: 'router: VXLAN to the gateway', frames: wrapped(w.gateway.address) }
  ]
}

/** What would change what the router knows; the caller looks at that. */
function messageAttacks(w: RouterPlace6): readonly Attack[] {
  const { me, other, gateway, server } = w
  const c = via(w, gateway.address)
  const mine = linkOption(TARGET_LINK, me.mac)
  const claim = (address: Buffer, flags: number): Attack['frames'] => c.advertisement(address, { flags, option: mine })
  return [
    { kind: 'router: advertisement of another container', frames: claim(other.address, SOLICITED | OVERRIDE) },
    { kind: 'router: advertisement of the gateway', frames: claim(gateway.address, ROUTER | OVERRIDE) },
    {
      kind: 'router: solicitation from another container',
      frames: c.solicitation(linkOption(1, me.mac), { from: other.address, at: gateway })
    },
    { kind: 'router: router advertisement', frames: c.message(TYPE.routerAdvertisement, routerAdvertisement(w)) },
    {
      kind: 'router: link-local router advertisement',
      frames: c.message(TYPE.routerAdvertisement, routerAdvertisement(w), { from: linkLocal(me.mac) })
    },
    {
      kind: 'router: redirect',
      frames: c.message(TYPE.redirect, discovery(0, me.address, server, mine), { from: linkLocal(me.mac) })
    },
    { kind: 'router: query of listeners', frames: c.message(TYPE.listenerQuery, Buffer.alloc(20)) },
    { kind: 'router: DHCPv6', frames: c.datagram([CLIENT, SERVER]) },
    {
      kind: 'router: packet too big, about the server’s flow to another',
      frames: error(c, { from: server, to: other.address })
    },
    {
      kind: 'router: packet too big, about the gateway’s flow to another',
      frames: error(c, { from: gateway.address, to: other.address })
    },
    {
      kind: 'router: packet too big, to another host, about a host’s flow',
      frames: error(via(w, w.member), { from: w.member, to: w.host })
    },
    {
      kind: 'router: packet too big, to its host, about its flow',
      frames: error(via(w, w.host), { from: w.host, to: w.member })
    }
  ]
}

function error(c: Craft, about: { readonly from: Buffer; readonly to: Buffer }): Attack['frames'] {
  return c.error(TYPE.packetTooBig, about)
}
