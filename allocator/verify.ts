// The self-check: bit vectors and indexes recomputed from the owners and compared with what the state holds.

import { endpointKey } from '#model/endpoint.ts'
import { broadcastAddress } from '#model/ipv4.ts'
import type { Pool } from './pool.ts'
import type { ClusterState } from './state-machine.ts'

/** Every way in which the state contradicts itself; empty when it is sound. O(state). */
export function verify({ tables }: ClusterState): string[] {
  const faults: string[] = []
  const vnis = [0, ...[...tables.networks.values()].map(({ network }) => network.vni)]
  comparePool({ what: 'vnis', pool: tables.vnis, owned: vnis, faults })
  let endpoints = 0
  for (const { network, pool, endpoints: rows, byMac } of tables.networks.values()) {
    const reserved = [network.subnet.base, network.gateway, broadcastAddress(network.subnet)]
    const owned = [...reserved, ...[...rows.values()].map(e => e.address)]
    comparePool({ what: `addresses of ${network.name}`, pool, owned, faults })
    if (byMac.size !== rows.size) faults.push(`network ${network.name}: ${rows.size} endpoints, ${byMac.size} MACs`)
    if (tables.networkByVni.get(network.vni) !== network.name) faults.push(`vni ${network.vni} is not ${network.name}`)
    endpoints += rows.size
    for (const [key, endpoint] of rows) {
      if (key !== endpointKey(endpoint.containerId, endpoint.ifname)) faults.push(`endpoint ${key} has another key`)
      if (tables.endpoints.get(key) !== endpoint) faults.push(`endpoint ${key} is not in the table`)
      if (tables.byHost.get(endpoint.host)?.has(key) !== true) faults.push(`endpoint ${key} is not on its host`)
      if (tables.byContainer.get(endpoint.containerId)?.has(key) !== true) faults.push(`endpoint ${key} is lost`)
      if (!tables.hosts.has(endpoint.host)) faults.push(`endpoint ${key} is on a host that is not there`)
    }
  }
  if (endpoints !== tables.endpoints.size) faults.push(`${tables.endpoints.size} endpoints, ${endpoints} in networks`)
  if (tables.networkByVni.size !== tables.networks.size) faults.push('a VNI without its network')
  for (const host of tables.hosts.values()) {
    if (tables.hostByName.get(host.name) !== host.peerId) faults.push(`host ${host.name} has another peer id by name`)
  }
  if (tables.hostByName.size !== tables.hosts.size) faults.push('a host name without its host')
  return faults
}

function comparePool(p: { what: string; pool: Pool; owned: readonly number[]; faults: string[] }): void {
  const wanted = [...p.owned].sort((a, b) => a - b)
  for (const [at, value] of wanted.entries()) if (wanted[at + 1] === value) p.faults.push(`${p.what}: ${value} twice`)
  const marked = [...p.pool.values()]
  if (marked.length === wanted.length && marked.every((value, at) => value === wanted[at])) return
  p.faults.push(`${p.what}: the bit vector holds ${marked.length} values, the owners ${wanted.length}`)
}
