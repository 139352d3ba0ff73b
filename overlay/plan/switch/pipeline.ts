// The flows of the integration bridge as a function of the desired state. docs/openvswitch.md explains them one by one.
//   0 classify: select the network by ingress port; drop packets from unknown ports
//   1 tunnel:   select the network of a packet from another host by its VNI
//   2 source:   anti-spoofing: a port sends only from its own addresses
//   3 protocol: drop banned messages; answer ARP, and lead a solicitation to the container that it asks for
//   4 remote:   forward to the host that has the MAC, or flood to all hosts of the network
//   5 local:    forward to the container
// A packet without a match is dropped. Nothing is learned. Pure.

import { formatIpv4 } from '#model/ipv4.ts'
import type { IfName, Vni } from '#model/ids.ts'
import { compareIp, formatIp, ipv4Of, isIpv4, type Ip } from '#model/ip.ts'
import type { Ipv6 } from '#model/ipv6.ts'
import type { Mac } from '#model/mac.ts'
import { bannedMessages, ICMP6, TRANSPORTS6 } from '../filter/banned.ts'
import type { DesiredNetwork } from '../network/desired.ts'
import type { Flows } from '../network/switch.ts'

/** Port number of the tunnel. All other ports have higher numbers. */
export const TUNNEL_PORT = 1

const [CLASSIFY, TUNNEL, SOURCE, PROTOCOL, REMOTE, LOCAL] = [0, 1, 2, 3, 4, 5]

/** No 802.1Q tag, not even a priority tag. Written as the switch dumps it. */
const UNTAGGED = 'vlan_tci=0x0000/0x1fff'
const GROUP_MAC = 'dl_dst=01:00:00:00:00:00/01:00:00:00:00:00'
/** IEEE 802.1D: link-local groups, which no bridge forwards. */
const BRIDGE_MAC = 'dl_dst=01:80:c2:00:00:00/ff:ff:ff:ff:ff:f0'

const NO_MAC = '00:00:00:00:00:00'
/** As the switch dumps them. */
const PROTOCOL_WORDS: Readonly<Record<(typeof TRANSPORTS6)[number], readonly string[]>> = {
  6: ['tcp6'],
  50: ['ipv6', 'nw_proto=50'],
  132: ['sctp6']
}

/** The flows that all networks share. */
export function hostFlows(p: { readonly vteps: ReadonlySet<Ip>; readonly port: number }): Flows {
  const flows = new Builder()
  for (const vtep of p.vteps) {
    flows.add(
      [CLASSIFY, 100],
      [`${tunnelField(vtep, 'src')}=${formatIp(vtep)}`, `in_port=${TUNNEL_PORT}`],
      [go(TUNNEL)]
    )
  }
  // Fragments after the first carry no ports. They are useless without the first, and receivers drop overlapping fragments.
  for (const family of ['ip', 'ipv6']) flows.add([PROTOCOL, 110], [family, 'nw_frag=later'], [go(REMOTE)])
  const banned = bannedMessages(p.port)
  for (const match of [
    ['udp', `tp_src=${banned.udpSource}`],
    ...banned.udpDestinations.map(port => ['udp', `tp_dst=${port}`]),
    ...banned.icmpTypes.map(({ number }) => ['icmp', `icmp_type=${number}`]),
    ...banned.udp6.sources.map(port => ['udp6', `tp_src=${port}`]),
    ...banned.udp6.destinations.map(port => ['udp6', `tp_dst=${port}`])
  ]) {
    flows.add([PROTOCOL, 100], match, ['drop'])
  }
  addProtocols6(flows)
  flows.add([PROTOCOL, 0], [], [go(REMOTE)])
  flows.add([REMOTE, 110], [BRIDGE_MAC], ['drop'])
  flows.add([REMOTE, 0], [], [go(LOCAL)])
  return flows.flows
}

/** The flows of one network. @param ports numbers of its existing ports by device, the router's included */
export function networkFlows(network: DesiredNetwork, ports: ReadonlyMap<IfName, number>): Flows {
  const flows = new Builder()
  const { vni, router } = network
  const inside = `metadata=${hex(vni)}`
  flows.add([TUNNEL, 100], [`tun_id=${hex(vni)}`, UNTAGGED], [mark(vni), go(LOCAL)])
  const local: number[] = []
  for (const { device, mac, addresses } of network.endpoints.values()) {
    const port = ports.get(device)
    if (port === undefined) continue
    local.push(port)
    addPort(flows, { vni, port, mac, addresses })
    flows.add([LOCAL, 100], [inside, `dl_dst=${mac}`], [`output:${port}`])
  }
  for (const [address, mac] of network.neighbours) {
    if (isIpv4(address)) {
      const asked = ['arp', inside, `arp_tpa=${formatIpv4(address)}`, 'arp_op=1']
      flows.add([PROTOCOL, 100], asked, arpAnswer(address, mac))
    } else {
      // The one that is asked for answers for itself.
      const asked = ['icmp6', inside, ...nd(ICMP6.solicitation), `nd_target=${address}`]
      flows.add([PROTOCOL, 100], asked, [`set_field:${mac}->eth_dst`, go(REMOTE)])
    }
  }
  for (const [mac, vtep] of network.entries) {
    flows.add([REMOTE, 100], [inside, `dl_dst=${mac}`], [tunnel(vni), ...to(vtep)])
  }
  const port = router === null ? undefined : ports.get(router.port)
  if (router !== null && port !== undefined) {
    addRouter(flows, { vni, port, mac: router.mac, hasIpv6: network.told !== null })
    flows.add([REMOTE, 100], [inside, `dl_dst=${router.mac}`], [`output:${port}`])
  }
  const flood = [...network.flood].sort(compareIp)
  if (flood.length > 0) {
    flows.add([REMOTE, 100], [inside, GROUP_MAC], [tunnel(vni), ...flood.flatMap(to), go(LOCAL)])
  }
  // The switch never outputs a packet to its ingress port, so the sender can stay in the list.
  const outputs = local.sort((a, b) => a - b).map(number => `output:${number}`)
  if (outputs.length > 0) flows.add([LOCAL, 100], [inside, GROUP_MAC], outputs)
  return flows.flows
}

/** Accepts IPv4, ARP and IPv6 from the endpoint's own MAC and addresses, and nothing else: no tag, no LLC. */
function addPort(flows: Builder, p: { vni: Vni; port: number; mac: Mac; addresses: readonly Ip[] }): void {
  const { vni, mac } = p
  const port = `in_port=${p.port}`
  flows.add([CLASSIFY, 100], [port, UNTAGGED], [mark(vni), go(SOURCE)])
  for (const address of p.addresses) {
    if (isIpv4(address)) addSource(flows, { port, mac, address: formatIpv4(address) })
    else addSource6(flows, { port, mac, address })
  }
}

function addSource(flows: Builder, { port, mac, address }: { port: string; mac: Mac; address: string }): void {
  flows.add([SOURCE, 100], ['ip', port, `dl_src=${mac}`, `nw_src=${address}`], [go(PROTOCOL)])
  for (const operation of [1, 2]) {
    const sender = [`dl_src=${mac}`, `arp_spa=${address}`, `arp_op=${operation}`, `arp_sha=${mac}`]
    flows.add([SOURCE, 100], ['arp', port, ...sender], [go(PROTOCOL)])
  }
  // A gratuitous ARP is not answered: its sender would take the reply for an address conflict.
  flows.add([PROTOCOL, 110], ['arp', port, `arp_tpa=${address}`, 'arp_op=1'], [go(REMOTE)])
}

/**
 * A solicitation names the sender's MAC, and an advertisement its address and MAC, or no MAC. Neither is in fragments (RFC 6980).
 * The switch reports a message with options that it cannot read as one without target and MACs.
 */
function addSource6(flows: Builder, { port, mac, address }: { port: string; mac: Mac; address: Ipv6 }): void {
  const own = [port, `dl_src=${mac}`, `ipv6_src=${address}`]
  flows.add([SOURCE, 100], ['ipv6', ...own], [go(PROTOCOL)])
  const solicitation = ['icmp6', ...own, 'nw_frag=no', ...nd(ICMP6.solicitation), `nd_sll=${mac}`]
  flows.add([SOURCE, 110], solicitation, [go(PROTOCOL)])
  for (const named of [mac, NO_MAC]) {
    const advertised = [...nd(ICMP6.advertisement), `nd_target=${address}`, `nd_tll=${named}`]
    flows.add([SOURCE, 110], ['icmp6', ...own, 'nw_frag=no', ...advertised], [go(REMOTE)])
  }
}

/** IPv6 that a container sends from its own address. What is not named here is dropped. */
function addProtocols6(flows: Builder): void {
  const types = [...ICMP6.echo, ...ICMP6.otherErrors, ICMP6.solicitation]
  for (const match of [
    ['udp6'],
    ...TRANSPORTS6.map(protocol => PROTOCOL_WORDS[protocol]),
    ...types.map(type => ['icmp6', `icmp_type=${type}`])
  ]) {
    flows.add([PROTOCOL, 90], match, [go(REMOTE)])
  }
  flows.add([PROTOCOL, 80], ['ipv6'], ['drop'])
  // Those that a port may send have passed before.
  flows.add([SOURCE, 105], ['icmp6', `icmp_type=${ICMP6.solicitation}`], ['drop'])
}

/** A router sends from any source address, but only to local containers: each host has its own router. */
function addRouter(flows: Builder, p: { vni: Vni; port: number; mac: Mac; hasIpv6: boolean }): void {
  const port = `in_port=${p.port}`
  flows.add([CLASSIFY, 100], [port, UNTAGGED], [mark(p.vni), go(SOURCE)])
  flows.add([SOURCE, 100], ['ip', port, `dl_src=${p.mac}`], [go(LOCAL)])
  if (p.hasIpv6) flows.add([SOURCE, 110], ['ipv6', port, `dl_src=${p.mac}`], [go(LOCAL)])
  flows.add([SOURCE, 100], ['arp', port, `dl_src=${p.mac}`, `arp_sha=${p.mac}`], [go(PROTOCOL)])
  flows.add([PROTOCOL, 50], [port], [go(LOCAL)])
}

/** Turns an ARP request into its reply and returns it to the ingress port (RFC 826). */
function arpAnswer(address: Ip, mac: Mac): readonly string[] {
  return [
    'move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[]',
    `set_field:${mac}->eth_src`,
    'set_field:2->arp_op',
    'move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[]',
    'move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[]',
    `set_field:${mac}->arp_sha`,
    `set_field:${formatIpv4(ipv4Of(address))}->arp_spa`,
    'IN_PORT'
  ]
}

/** An ND message has code 0 (RFC 4861 section 4). */
function nd(type: number): readonly string[] {
  return [`icmp_type=${type}`, 'icmp_code=0']
}

class Builder {
  readonly flows = new Map<string, string>()

  add([table, priority]: readonly [number, number], match: readonly string[], actions: readonly string[]): void {
    const where = table === 0 ? '' : `table=${table}, `
    this.flows.set(`${where}${[`priority=${priority}`, ...match].join(',')}`, actions.join(','))
  }
}

function go(table: number): string {
  return `goto_table:${table}`
}

function mark(vni: Vni): string {
  return `write_metadata:${hex(vni)}`
}

function tunnel(vni: Vni): string {
  return `set_field:${hex(vni)}->tun_id`
}

function to(vtep: Ip): readonly string[] {
  return [`set_field:${formatIp(vtep)}->${tunnelField(vtep, 'dst')}`, `output:${TUNNEL_PORT}`]
}

function tunnelField(vtep: Ip, end: 'src' | 'dst'): string {
  return `tun_${isIpv4(vtep) ? '' : 'ipv6_'}${end}`
}

function hex(vni: Vni): string {
  return `0x${vni.toString(16)}`
}
