// Probes the kernel's features in a scratch network namespace, which is deleted with its socket.

import { asVxmeshError } from '#model/errors.ts'
import type { Ip } from '#model/ip.ts'
import type { Mac } from '#model/mac.ts'
import { NetlinkSocket } from '#platform/netlink-socket.ts'
import type { Feature } from '../driver.ts'
import { tryTables } from '../filter/try-tables.ts'
import { createBridge, createVeth, createVxlan, setBridgePort } from '../netlink/link.ts'
import { doorsTable, filterTables, serfTable } from '../plan/filter/ruleset.ts'
import { PORT_FLAGS } from '../plan/network/op.ts'
import { probeShaping } from '../shaping/probe.ts'
import { attempt, readLink, type Kernel } from '../kernel/kernel.ts'

const MTU = 1400
const GROUP = 0

/** @param local this host's tunnel address. Takes some milliseconds. Never throws: a feature that cannot be probed is absent, with the reason. */
export function probeFeatures(kernel: Kernel, local: Ip): readonly Feature[] {
  return [...probeOverlay(kernel, local), ...probeShaping().features]
}

function probeOverlay(kernel: Kernel, local: Ip): readonly Feature[] {
  const ipv6: Feature = {
    name: 'ipv6-off',
    present: !kernel.ipv6.present || kernel.ipv6.sysctl,
    required: false,
    detail: 'without it a router advertisement of a container may give the host an IPv6 address'
  }
  let socket: NetlinkSocket
  try {
    socket = NetlinkSocket.openScratch()
  } catch (err) {
    return [feature('namespaces', true, asVxmeshError(err).message), ipv6]
  }
  try {
    const mac = '06:76:78:00:00:01' as Mac
    const bridge = attempt(() =>
      socket.request(createBridge({ name: 'b', mac, mtu: MTU, group: GROUP }), 'create bridge')
    )
    const master = readLink(socket, 'b')?.ifindex ?? 0
    const tunnel = { name: 'x', vni: 1, local, port: 4789, ttl: 64, mtu: MTU, group: GROUP, master }
    const vxlan = attempt(() => socket.request(createVxlan(tunnel), 'create VXLAN device'))
    const pair = { name: 'v', mtu: MTU, group: GROUP, peer: { name: 'w', mac } }
    const veth = attempt(() => socket.request(createVeth(pair), 'create veth pair'))
    attempt(() => socket.request(setBridgePort('x', PORT_FLAGS.vxlan), 'set bridge port'))
    const suppress = readLink(socket, 'x')?.bridgePort?.neighSuppress === true
    return [
      feature('bridge', true, bridge),
      feature('vxlan', true, vxlan),
      feature('veth', true, veth),
      {
        name: 'neigh-suppress',
        present: suppress,
        required: false,
        detail: suppress ? 'ARP is answered locally' : 'ARP requests are flooded to every host of the network'
      },
      ipv6
    ]
  } catch (err) {
    return [feature('netlink', true, asVxmeshError(err).message), ipv6]
  } finally {
    socket.close()
  }
}

/** All tables, with any ports. Takes some 50 ms. */
export async function probeFilters(p: { vtep: Ip; required: boolean }): Promise<readonly Feature[]> {
  const filters = filterTables({ vtep: p.vtep, port: 4789 })
  const others = [doorsTable([{ port: 7373, users: [0] }]), serfTable({ bind: p.vtep, port: 7946 })]
  const tried = await tryTables([...filters, ...others])
  return tried.map(({ table, failure }) => {
    const { name, without } = FILTER_FEATURES[table.set]
    const required = p.required && without === null
    return feature(name, required, failure === null || without === null ? failure : `${without} (${failure})`)
  })
}

/** `without`: what follows where the table is not necessary. */
const FILTER_FEATURES = {
  ports: { name: 'port-security', without: null },
  vteps: { name: 'underlay-guard', without: null },
  doors: { name: 'loopback-owners', without: 'ZeroMQ needs keys, and Serf’s RPC a token' },
  members: { name: 'serf-limits', without: 'floods of Serf’s port reach Serf' }
} as const

function feature(name: string, required: boolean, failure: string | null): Feature {
  return { name, present: failure === null, required, detail: failure ?? 'works' }
}
