// The flows of the integration bridge as a function of what is desired. docs/openvswitch.md goes through them one by one.
//
//   0 classify: which network does it belong to, and may it come in here at all?
//   1 tunnel:   a host of the cluster sent it; into which network?
//   2 source:   a port sends from its own addresses alone
//   3 protocol: what nobody may say; ARP is answered here
//   4 remote:   to the host that has the MAC, or to all that have the network
//   5 local:    to the container
//
// What no flow takes is dropped. Nothing is learned: every flow follows from the replicated state.

import type { IfName, Vni } from '#model/ids.ts'
import { formatIpv4, type Ipv4 } from '#model/ipv4.ts'
import type { Mac } from '#model/mac.ts'
import type { DesiredNetwork } from '../network/desired.ts'
import type { Flows } from '../network/switch.ts'

/** The tunnel's port is always this one. Containers have higher ones. */
export const TUNNEL_PORT = 1

const [CLASSIFY, TUNNEL, SOURCE, PROTOCOL, REMOTE, LOCAL] = [0, 1, 2, 3, 4, 5]

/** As the switch writes them: no tag of 802.1Q, not even one for priority alone. */
const UNTAGGED = 'vlan_tci=0x0000/0x1fff'
const GROUP_MAC = 'dl_dst=01:00:00:00:00:00/01:00:00:00:00:00'
/** IEEE 802.1D: no bridge passes these on. */
const BRIDGE_MAC = 'dl_dst=01:80:c2:00:00:00/ff:ff:ff:ff:ff:f0'
/** RFC 7348: no container has a tunnel on it, whatever port we use ourselves. */
const VXLAN_PORT = 4789

/** What is the same for all networks. */
export function hostFlows(p: { readonly vteps: ReadonlySet<Ipv4>; readonly port: number }): Flows {
  const flows = new Builder()
  for (const vtep of p.vteps) {
    flows.add([CLASSIFY, 100], [`tun_src=${formatIpv4(vtep)}`, `in_port=${TUNNEL_PORT}`], [go(TUNNEL)])
  }
  // The ports are in the first fragment alone; without it the others are nothing, and who reassembles drops overlaps.
  flows.add([PROTOCOL, 110], ['ip', 'nw_frag=later'], [go(REMOTE)])
  for (const match of [
    ['udp', 'tp_src=67'],
    ...[68, VXLAN_PORT, p.port].map(port => ['udp', `tp_dst=${port}`]),
    // A redirect and a router advertisement.
    ['icmp', 'icmp_type=5'],
    ['icmp', 'icmp_type=9']
  ]) {
    flows.add([PROTOCOL, 100], match, ['drop'])
  }
  flows.add([PROTOCOL, 0], [], [go(REMOTE)])
  flows.add([REMOTE, 110], [BRIDGE_MAC], ['drop'])
  flows.add([REMOTE, 0], [], [go(LOCAL)])
  return flows.done
}

/** One network's. @param ports the numbers of its ports that are there, the router's included */
export function networkFlows(network: DesiredNetwork, ports: ReadonlyMap<IfName, number>): Flows {
  const flows = new Builder()
  const { vni, router } = network
  const inside = `metadata=${hex(vni)}`
  flows.add([TUNNEL, 100], [`tun_id=${hex(vni)}`, UNTAGGED], [mark(vni), go(LOCAL)])
  const local: number[] = []
  for (const { device, mac, address } of network.endpoints.values()) {
    const port = ports.get(device)
    if (port === undefined) continue
    local.push(port)
    addPort(flows, { vni, port, mac, address })
    flows.add([LOCAL, 100], [inside, `dl_dst=${mac}`], [`output:${port}`])
  }
  for (const [address, mac] of network.neighbours) {
    const asked = ['arp', inside, `arp_tpa=${formatIpv4(address)}`, 'arp_op=1']
    flows.add([PROTOCOL, 100], asked, arpAnswer(address, mac))
  }
  for (const [mac, vtep] of network.entries) {
    flows.add([REMOTE, 100], [inside, `dl_dst=${mac}`], [tunnel(vni), ...to(vtep)])
  }
  const port = router === null ? undefined : ports.get(router.port)
  if (router !== null && port !== undefined) {
    addRouter(flows, { vni, port, mac: router.mac })
    flows.add([REMOTE, 100], [inside, `dl_dst=${router.mac}`], [`output:${port}`])
  }
  const flood = [...network.flood].sort((a, b) => a - b)
  if (flood.length > 0) {
    flows.add([REMOTE, 100], [inside, GROUP_MAC], [tunnel(vni), ...flood.flatMap(to), go(LOCAL)])
  }
  // Nothing goes out by the port that it came in by.
  const outputs = local.sort((a, b) => a - b).map(number => `output:${number}`)
  if (outputs.length > 0) flows.add([LOCAL, 100], [inside, GROUP_MAC], outputs)
  return flows.done
}

/** IPv4 and ARP from the one MAC and address, and nothing else: no IPv6, no tag, no LLC. */
function addPort(flows: Builder, p: { vni: Vni; port: number; mac: Mac; address: Ipv4 }): void {
  const { vni, mac } = p
  const port = `in_port=${p.port}`
  const address = formatIpv4(p.address)
  flows.add([CLASSIFY, 100], [port, UNTAGGED], [mark(vni), go(SOURCE)])
  flows.add([SOURCE, 100], ['ip', port, `dl_src=${mac}`, `nw_src=${address}`], [go(PROTOCOL)])
  for (const operation of [1, 2]) {
    const said = [`dl_src=${mac}`, `arp_spa=${address}`, `arp_op=${operation}`, `arp_sha=${mac}`]
    flows.add([SOURCE, 100], ['arp', port, ...said], [go(PROTOCOL)])
  }
  // Who announces its own address is not told that it is taken.
  flows.add([PROTOCOL, 110], ['arp', port, `arp_tpa=${address}`, 'arp_op=1'], [go(REMOTE)])
}

/** A router sends from outside addresses, and to this host's containers alone: each host has its own. */
function addRouter(flows: Builder, p: { vni: Vni; port: number; mac: Mac }): void {
  const port = `in_port=${p.port}`
  flows.add([CLASSIFY, 100], [port, UNTAGGED], [mark(p.vni), go(SOURCE)])
  flows.add([SOURCE, 100], ['ip', port, `dl_src=${p.mac}`], [go(LOCAL)])
  flows.add([SOURCE, 100], ['arp', port, `dl_src=${p.mac}`, `arp_sha=${p.mac}`], [go(PROTOCOL)])
  flows.add([PROTOCOL, 50], [port], [go(LOCAL)])
}

/** The question turned into its answer, back to where it came from (RFC 826). */
function arpAnswer(address: Ipv4, mac: Mac): readonly string[] {
  return [
    'move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[]',
    `set_field:${mac}->eth_src`,
    'set_field:2->arp_op',
    'move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[]',
    'move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[]',
    `set_field:${mac}->arp_sha`,
    `set_field:${formatIpv4(address)}->arp_spa`,
    'IN_PORT'
  ]
}

class Builder {
  readonly done = new Map<string, string>()

  add([table, priority]: readonly [number, number], match: readonly string[], actions: readonly string[]): void {
    const where = table === 0 ? '' : `table=${table}, `
    this.done.set(`${where}${[`priority=${priority}`, ...match].join(',')}`, actions.join(','))
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

function to(vtep: Ipv4): readonly string[] {
  return [`set_field:${formatIpv4(vtep)}->tun_dst`, `output:${TUNNEL_PORT}`]
}

function hex(vni: Vni): string {
  return `0x${vni.toString(16)}`
}
