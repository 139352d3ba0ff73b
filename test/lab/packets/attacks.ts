// The attack matrix: what a container, and a stranger on the underlay, may attempt. Each kind builds the frames of one
// attempt.

import { ipv4Of, isIpv4, parseIp, type Ip } from '#model/ip.ts'
import type { Mac } from '#model/mac.ts'
import {
  ALL_NODES,
  arp,
  BROADCAST,
  ether,
  ETHER,
  ICMP,
  icmp,
  icmp6,
  ipPacket,
  ipv4,
  ipv6,
  linkLocal,
  llc,
  macBytes,
  u32,
  UDP,
  udp,
  udpBetween,
  vlanTag,
  vxlan,
  type IpOptions
} from './frames.ts'

export type Party = { readonly mac: Mac; readonly address: number }

export function partyOf({ mac, address }: { readonly mac: Mac; readonly address: Ip }): Party {
  return { mac, address: ipv4Of(address) }
}

export type Attack = {
  readonly kind: string
  /** The frames of one attempt: each carries `mark`, and `n` makes attempts differ. */
  readonly frames: (mark: Buffer, n: number) => readonly Buffer[]
  /** The only listener at which it must not arrive; all of them without one. */
  readonly at?: 'host'
  /** The only one at which it may. */
  readonly but?: 'outside'
}

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex')
const DATA_PORT = 7_000
/** Larger than any MTU of the networks; the container that sends it needs an MTU of JUMBO_MTU. */
export const JUMBO = Buffer.alloc(4_000)
export const JUMBO_MTU = 9_000
const FOREIGN = 'ee:00:00:00:00:01' as Mac

export function patched(packet: Buffer, at: number, byte: number): Buffer {
  const changed = Buffer.from(packet)
  changed.writeUInt8(byte, at)
  return changed
}

/** Six bytes of ones, then the MAC sixteen times. */
function wake(mac: Mac): Buffer {
  return Buffer.concat([Buffer.alloc(6, 0xff), ...Array.from({ length: 16 }, () => macBytes(mac))])
}

/** A container's legitimate traffic, which must arrive. */
export function ordinary(me: Party, victim: Party, toPort = DATA_PORT): Attack['frames'] {
  return (mark, n) => [
    ether(
      { to: victim.mac, from: me.mac, type: ETHER.ipv4 },
      ipv4({ from: me.address, to: victim.address, protocol: UDP, id: n & 0xffff }, udp(DATA_PORT, toPort, mark))
    )
  ]
}

/** Attacks from a container on others of its network (`victim`, `other`), its gateway, other tenants and its host. */
export function containerAttacks(w: {
  me: Party
  victim: Party
  other: Party
  gateway: number
  gatewayMac: Mac
  bridge: Mac
  host: { mac: Mac; address: number; port: number }
  /** The address of another host. */
  member: number
  vni: number
  foreign: { vni: number; victim: Party }
}): readonly Attack[] {
  const { me, victim, other } = w
  const ip = (change: Partial<IpOptions>, payload: Buffer): Buffer =>
    ipv4({ from: me.address, to: victim.address, protocol: UDP, ...change }, payload)
  const data = (mark: Buffer): Buffer => udp(DATA_PORT, DATA_PORT, mark)
  const frame = (payload: Buffer, change: { to?: Mac; from?: Mac; type?: number } = {}): Buffer =>
    ether({ to: victim.mac, from: me.mac, type: ETHER.ipv4, ...change }, payload)
  const arpFrame = (
    mark: Buffer,
    change: Partial<Parameters<typeof arp>[0]>,
    link: { to?: Mac; from?: Mac; type?: number } = {}
  ): Buffer =>
    frame(
      Buffer.concat([
        arp({
          operation: 2,
          fromMac: me.mac,
          fromAddress: me.address,
          toMac: victim.mac,
          toAddress: victim.address,
          ...change
        }),
        mark
      ]),
      { type: ETHER.arp, ...link }
    )
  const six = { from: linkLocal(me.mac), to: ALL_NODES }
  const multicast6 = '33:33:00:00:00:01' as Mac
  const frame6 = (payload: Buffer): Buffer => frame(payload, { to: multicast6, type: ETHER.ipv6 })
  const randomMac = (n: number): Mac =>
    `0a:${[...u32(n)].map(byte => byte.toString(16).padStart(2, '0')).join(':')}:01` as Mac
  const tunnelled = (mark: Buffer): Buffer =>
    vxlan({ vni: w.foreign.vni }, ordinary({ mac: FOREIGN, address: me.address }, w.foreign.victim)(mark, 0)[0] ?? mark)
  const toHost = (mark: Buffer): Buffer => ip({ to: w.host.address }, udp(DATA_PORT, w.host.port, mark))
  // The first fragment holds the whole datagram except its tail.
  const fragments = (change: Partial<IpOptions>, datagram: Buffer, tail: Buffer, n: number): Buffer[] => {
    const id = n & 0xffff
    const first = Buffer.concat([datagram, Buffer.alloc(-datagram.length & 7)])
    first.writeUInt16BE(first.length + tail.length, 4)
    const rest = ip({ ...change, id, offset: first.length / 8 }, tail)
    return [frame(ip({ ...change, id, more: true }, first)), frame(rest)]
  }
  const redirect6 = (mark: Buffer): Buffer => Buffer.concat([u32(0), linkLocal(other.mac), linkLocal(victim.mac), mark])
  const advertised = (mark: Buffer): Buffer =>
    Buffer.concat([hex('40 c0 0708'), u32(0), u32(0), hex('0101'), macBytes(me.mac), mark])

  return [
    { kind: 'unknown source MAC', frames: m => [frame(ip({}, data(m)), { from: FOREIGN })] },
    { kind: 'source MAC of another container', frames: m => [frame(ip({}, data(m)), { from: other.mac })] },
    { kind: 'source MAC of the bridge', frames: m => [frame(ip({}, data(m)), { from: w.bridge })] },
    { kind: 'MAC flood', frames: (m, n) => [frame(ip({}, data(m)), { from: randomMac(n) })] },
    { kind: 'source address of another container', frames: m => [frame(ip({ from: other.address }, data(m)))] },
    { kind: 'source address of the gateway', frames: m => [frame(ip({ from: w.gateway }, data(m)))] },
    { kind: 'source address from outside', frames: m => [frame(ip({ from: 0x08080808 }, data(m)))] },
    { kind: 'source address 0.0.0.0', frames: m => [frame(ip({ from: 0 }, data(m)), { to: BROADCAST })] },
    { kind: 'source MAC and address of another container', frames: ordinary(other, victim) },
    {
      kind: 'fragments of a spoofed source',
      frames: (m, n) => fragments({ from: other.address }, data(m), m, n)
    },
    { kind: "ARP reply with another's address", frames: m => [arpFrame(m, { fromAddress: other.address })] },
    { kind: "ARP reply with another's MAC", frames: m => [arpFrame(m, { fromMac: other.mac })] },
    {
      kind: "ARP request with another's address",
      frames: m => [arpFrame(m, { operation: 1, fromAddress: other.address }, { to: BROADCAST })]
    },
    {
      kind: "gratuitous ARP for another's address",
      frames: m => [
        arpFrame(m, { operation: 1, fromAddress: other.address, toAddress: other.address }, { to: BROADCAST })
      ]
    },
    {
      kind: 'gratuitous ARP for the gateway',
      frames: m => [arpFrame(m, { fromAddress: w.gateway, toAddress: w.gateway, toMac: BROADCAST }, { to: BROADCAST })]
    },
    { kind: 'ARP in a frame with a foreign source', frames: m => [arpFrame(m, {}, { from: FOREIGN })] },
    { kind: 'ARP with a wrong address length', frames: m => [arpFrame(m, { macLength: 8 })] },
    {
      kind: 'ARP probe (sender 0.0.0.0)',
      frames: m => [arpFrame(m, { operation: 1, fromAddress: 0 }, { to: BROADCAST })]
    },
    { kind: 'inverse ARP', frames: m => [arpFrame(m, { operation: 9 })] },
    { kind: 'RARP reply', frames: m => [arpFrame(m, { operation: 4 }, { type: ETHER.rarp })] },
    { kind: 'IPv6 router advertisement', frames: m => [frame6(icmp6(six, 134, advertised(m)))] },
    { kind: 'IPv6 router solicitation', frames: m => [frame6(icmp6(six, 133, Buffer.concat([u32(0), m])))] },
    {
      kind: 'IPv6 neighbour advertisement of another',
      frames: m => [
        frame6(
          icmp6(six, 136, Buffer.concat([u32(0x2000_0000), linkLocal(other.mac), hex('0201'), macBytes(me.mac), m]))
        )
      ]
    },
    {
      kind: 'IPv6 neighbour solicitation',
      frames: m => [frame6(icmp6(six, 135, Buffer.concat([u32(0), linkLocal(victim.mac), m])))]
    },
    { kind: 'IPv6 redirect', frames: m => [frame6(icmp6(six, 137, redirect6(m)))] },
    { kind: 'IPv6 multicast', frames: m => [frame6(ipv6({ ...six, next: UDP }, data(m)))] },
    { kind: 'DHCPv6 answer', frames: m => [frame6(ipv6({ ...six, next: UDP }, udp(547, 546, m)))] },
    { kind: 'DHCP offer', frames: m => [frame(ip({ to: 0xffff_ffff }, udp(67, 68, m)), { to: BROADCAST })] },
    { kind: 'DHCP answer from another port', frames: m => [frame(ip({}, udp(1067, 68, m)))] },
    {
      kind: 'ICMP redirect',
      frames: m => [
        frame(
          ip(
            { protocol: ICMP },
            icmp(5, 1, Buffer.concat([u32(me.address), ip({ from: victim.address, to: w.gateway }, data(m))]))
          )
        )
      ]
    },
    {
      kind: 'ICMP router advertisement',
      frames: m => [
        frame(ip({ protocol: ICMP }, icmp(9, 0, Buffer.concat([hex('0102 0708'), u32(me.address), u32(0), m]))))
      ]
    },
    { kind: 'VLAN tag', frames: m => [frame(vlanTag(5, ETHER.ipv4, ip({}, data(m))), { type: ETHER.vlan })] },
    { kind: 'VLAN tag 0', frames: m => [frame(vlanTag(0, ETHER.ipv4, ip({}, data(m))), { type: ETHER.vlan })] },
    {
      kind: 'VLAN tag over a spoofed ARP',
      frames: m => [
        frame(vlanTag(0, ETHER.arp, arpFrame(m, { fromAddress: other.address }).subarray(14)), { type: ETHER.vlan })
      ]
    },
    {
      kind: 'two VLAN tags',
      frames: m => [frame(vlanTag(5, ETHER.vlan, vlanTag(6, ETHER.ipv4, ip({}, data(m)))), { type: ETHER.qinq })]
    },
    { kind: 'IP version 5', frames: m => [frame(patched(ip({}, data(m)), 0, 0x55))] },
    { kind: 'IP header of 16 bytes', frames: m => [frame(patched(ip({}, data(m)), 0, 0x44))] },
    { kind: 'IP header cut short', frames: m => [frame(Buffer.concat([ip({}, Buffer.alloc(0)).subarray(0, 12), m]))] },
    { kind: 'IP packet longer than its frame', frames: m => [frame(patched(ip({}, data(m)), 2, 0x40))] },
    { kind: 'jumbo frame', frames: m => [frame(ip({}, udp(DATA_PORT, DATA_PORT, Buffer.concat([m, JUMBO]))))] },
    { kind: 'VXLAN of its own to a container', frames: m => [frame(ip({}, udp(DATA_PORT, 4789, tunnelled(m))))] },
    {
      kind: 'the same in fragments',
      frames: (m, n) => fragments({}, udp(DATA_PORT, 4789, tunnelled(m)), Buffer.alloc(8), n)
    },
    {
      kind: 'VXLAN to the host, by the bridge',
      frames: m => [frame(ip({ to: w.host.address }, udp(DATA_PORT, 4789, tunnelled(m))), { to: w.bridge })]
    },
    {
      kind: 'VXLAN to another host, by the gateway',
      frames: m => [frame(ip({ to: w.member }, udp(DATA_PORT, 4789, tunnelled(m))), { to: w.gatewayMac })]
    },
    {
      kind: 'VXLAN to the gateway',
      frames: m => [frame(ip({ to: w.gateway }, udp(DATA_PORT, 4789, tunnelled(m))), { to: w.gatewayMac })]
    },
    { kind: "another tenant's MAC", frames: ordinary(me, w.foreign.victim) },
    {
      kind: 'spanning tree BPDU',
      frames: m => [llc({ to: '01:80:c2:00:00:00' as Mac, from: me.mac }, Buffer.concat([hex('424203 0000 00 00'), m]))]
    },
    { kind: 'LACP', frames: m => [frame(m, { to: '01:80:c2:00:00:02' as Mac, type: 0x8809 })] },
    { kind: 'EAPOL', frames: m => [frame(m, { to: '01:80:c2:00:00:03' as Mac, type: 0x888e })] },
    { kind: 'LLDP', frames: m => [frame(m, { to: '01:80:c2:00:00:0e' as Mac, type: 0x88cc })] },
    { kind: 'experimental Ethernet type', frames: m => [frame(m, { type: 0x88b5 })] },
    { kind: 'MPLS', frames: m => [frame(Buffer.concat([u32(0x0001_0140), ip({}, data(m))]), { type: 0x8847 })] },
    { kind: 'PPPoE discovery', frames: m => [frame(m, { to: BROADCAST, type: 0x8863 })] },
    {
      kind: 'Wake-on-LAN',
      frames: m => [frame(Buffer.concat([wake(victim.mac), m]), { to: BROADCAST, type: 0x0842 })]
    },
    { kind: 'IPv4 in an IPv6 frame', frames: m => [frame(ip({}, data(m)), { type: ETHER.ipv6 })] },
    { kind: "the host's address, by the bridge", frames: m => [frame(toHost(m), { to: w.bridge })] },
    { kind: "the host's address, by broadcast", frames: m => [frame(toHost(m), { to: BROADCAST })], at: 'host' },
    {
      kind: "the host's address, by a reserved MAC",
      frames: m => [frame(toHost(m), { to: '01:80:c2:00:00:0e' as Mac })]
    }
  ]
}

/** A host on the underlay. */
export type Wired = { readonly mac: Mac; readonly address: Ip }

type Outer = Partial<Parameters<typeof ipPacket>[0]> & { readonly toMac?: Mac }

/** Attacks from the underlay on one host's tunnel: `from` sends the frames, `inner` is what they would deliver. */
export function underlayAttacks(w: {
  stranger: Wired
  member: Wired
  host: Wired
  port: number
  vni: number
  inner: (mark: Buffer) => Buffer
  foreign: { vni: number; inner: (mark: Buffer) => Buffer }
}): {
  readonly stranger: readonly Attack[]
  readonly member: readonly Attack[]
  /** A member's legitimate tunnel traffic. */
  readonly ordinary: Attack['frames']
} {
  const isFour = isIpv4(w.host.address)
  const outer = (by: Wired, bytes: Buffer, { toMac = w.host.mac, ...change }: Outer = {}): Buffer =>
    ether(
      { to: toMac, from: by.mac, type: isFour ? ETHER.ipv4 : ETHER.ipv6 },
      ipPacket({ from: by.address, to: w.host.address, protocol: UDP, ...change }, bytes)
    )
  const datagram = (by: Wired, payload: Buffer, change: Outer = {}, dport = w.port): Buffer =>
    udpBetween({ from: by.address, to: w.host.address, ...change }, 50_000, dport, payload)
  const packet = (by: Wired, payload: Buffer, change: Outer = {}, dport = w.port): Buffer =>
    outer(by, datagram(by, payload, change, dport), change)
  const tunnel = (mark: Buffer, change: Partial<Parameters<typeof vxlan>[0]> = {}): Buffer =>
    vxlan({ vni: w.vni, ...change }, w.inner(mark))
  const padded = (mark: Buffer): Buffer => Buffer.concat([tunnel(mark), Buffer.alloc(64)])
  const halves = (by: Wired, mark: Buffer, n: number): Buffer[] => {
    const whole = datagram(by, tunnel(mark))
    const id = n & 0xffff
    const first = outer(by, whole.subarray(0, 16), { id, more: true })
    return [first, outer(by, whole.subarray(16), { id, offset: 2 })]
  }
  const [nobody, everybody] = isFour
    ? [parseIp('192.0.2.200'), { to: parseIp('192.0.2.255') }]
    : [parseIp('2001:db8::200'), { to: parseIp('ff02::1'), toMac: '33:33:00:00:00:01' as Mac }]
  return {
    ordinary: m => [packet(w.member, tunnel(m))],
    stranger: [
      { kind: 'stranger: right VNI', frames: m => [packet(w.stranger, tunnel(m))] },
      {
        kind: "stranger: another tenant's VNI",
        frames: m => [packet(w.stranger, vxlan({ vni: w.foreign.vni }, w.foreign.inner(m)))]
      },
      { kind: 'stranger: unknown VNI', frames: m => [packet(w.stranger, tunnel(m, { vni: 77 }))] },
      { kind: 'stranger: in fragments', frames: (m, n) => halves(w.stranger, m, n) },
      {
        kind: "stranger: the host's own address",
        frames: m => [packet(w.stranger, tunnel(m), { from: w.host.address })]
      },
      { kind: 'stranger: address of no host', frames: m => [packet(w.stranger, tunnel(m), { from: nobody })] },
      { kind: 'stranger: to the broadcast address', frames: m => [packet(w.stranger, tunnel(m), everybody)] },
      ...(isFour ? [] : strangersBehindHeaders({ outer, whole: m => datagram(w.stranger, tunnel(m)), ...w }))
    ],
    member: [
      { kind: 'member: no I flag', frames: m => [packet(w.member, tunnel(m, { flags: 0 }))] },
      { kind: 'member: reserved flag set', frames: m => [packet(w.member, tunnel(m, { flags: 0x8800_0000 }))] },
      { kind: 'member: GPE flags', frames: m => [packet(w.member, tunnel(m, { flags: 0x0c00_0003 }))] },
      {
        kind: 'member: reserved bits before the VNI',
        frames: m => [packet(w.member, tunnel(m, { flags: 0x0800_0001 }))]
      },
      { kind: 'member: reserved byte after the VNI', frames: m => [packet(w.member, tunnel(m, { reserved: 1 }))] },
      { kind: 'member: unknown VNI', frames: m => [packet(w.member, tunnel(m, { vni: 77 }))] },
      { kind: 'member: VNI 0', frames: m => [packet(w.member, tunnel(m, { vni: 0 }))] },
      { kind: 'member: shorter than IP says', frames: m => [packet(w.member, padded(m)).subarray(0, -32)] },
      {
        kind: 'member: shorter than UDP says',
        frames: m => [outer(w.member, datagram(w.member, padded(m)).subarray(0, -32))]
      },
      { kind: 'member: to another port', frames: m => [packet(w.member, tunnel(m), {}, w.port + 1)] }
    ]
  }
}

/** IPv6 alone: what a filter may fail to look behind. */
function strangersBehindHeaders(w: {
  readonly outer: (by: Wired, bytes: Buffer, change?: Outer) => Buffer
  readonly whole: (mark: Buffer) => Buffer
  readonly stranger: Wired
}): readonly Attack[] {
  const [HOP_BY_HOP, ROUTING, DESTINATION] = [0, 43, 60]
  /** Eight bytes of padding options. */
  const options = (next: number): Buffer => Buffer.from([next, 0, 1, 4, 0, 0, 0, 0])
  const behind = (protocol: number, header: Buffer) => (m: Buffer) => [
    w.outer(w.stranger, Buffer.concat([header, w.whole(m)]), { protocol })
  ]
  return [
    { kind: 'stranger: behind hop-by-hop options', frames: behind(HOP_BY_HOP, options(UDP)) },
    { kind: 'stranger: behind destination options', frames: behind(DESTINATION, options(UDP)) },
    {
      kind: 'stranger: behind two headers',
      frames: behind(DESTINATION, Buffer.concat([options(DESTINATION), options(UDP)]))
    },
    { kind: 'stranger: behind a routing header', frames: behind(ROUTING, Buffer.from([UDP, 0, 4, 0, 0, 0, 0, 0])) },
    {
      kind: 'stranger: no UDP header in the first fragment',
      frames: (m, n) => {
        const part = { protocol: DESTINATION, id: 0x10000 + n }
        const first = w.outer(w.stranger, options(UDP), { ...part, more: true })
        return [first, w.outer(w.stranger, w.whole(m), { ...part, offset: 1 })]
      }
    },
    {
      kind: 'stranger: the UDP header alone in the first fragment',
      frames: (m, n) => {
        const part = { id: 0x20000 + n }
        const first = w.outer(w.stranger, w.whole(m).subarray(0, 8), { ...part, more: true })
        return [first, w.outer(w.stranger, w.whole(m).subarray(8), { ...part, offset: 1 })]
      }
    }
  ]
}
