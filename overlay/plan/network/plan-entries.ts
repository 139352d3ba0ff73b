// Plans flood, FDB and neighbour entries of one network against those that survive the device ops. Pure.

import type { DesiredNetwork } from './desired.ts'
import type { ObservedBridge, ObservedVxlan } from './observed.ts'
import type { BridgeOp } from './op.ts'

export function planEntries(p: {
  readonly network: DesiredNetwork
  readonly bridge: ObservedBridge | undefined
  readonly vxlan: ObservedVxlan | undefined
  readonly adds: BridgeOp[]
  readonly deletes: BridgeOp[]
}): void {
  planFlood(p)
  planFdb(p)
  planNeighbours(p)
}

type Entries = Parameters<typeof planEntries>[0]

function planFlood({ network, vxlan, adds, deletes }: Entries): void {
  const at = { vni: network.vni, device: network.vxlan }
  // Foreign flood entries cannot be named by VTEP alone: all are deleted, and ours are added back at once.
  const clear = vxlan?.floodOdd === true
  if (clear) adds.push({ kind: 'flood-clear', ...at })
  for (const vtep of network.flood) {
    if (clear || vxlan?.flood.has(vtep) !== true) adds.push({ kind: 'flood-add', ...at, vtep })
  }
  if (clear) return
  for (const vtep of vxlan?.flood ?? []) {
    if (!network.flood.has(vtep)) deletes.push({ kind: 'flood-delete', ...at, vtep })
  }
}

function planFdb({ network, vxlan, adds, deletes }: Entries): void {
  const at = { vni: network.vni, device: network.vxlan }
  for (const [mac, vtep] of network.entries) {
    const entry = vxlan?.entries.get(mac)
    if (entry?.vtep !== vtep || entry.bridged !== 'static') adds.push({ kind: 'fdb-set', ...at, mac, vtep })
  }
  for (const [mac, entry] of vxlan?.entries ?? []) {
    if (!network.entries.has(mac)) {
      deletes.push({ kind: 'fdb-delete', ...at, mac, self: entry.self, bridged: entry.bridged !== 'none' })
    }
  }
}

function planNeighbours({ network, bridge, adds, deletes }: Entries): void {
  const at = { vni: network.vni, device: network.bridge }
  for (const [address, mac] of network.neighbours) {
    if (bridge?.neighbours.get(address) !== mac) adds.push({ kind: 'neighbour-set', ...at, address, mac })
  }
  for (const address of bridge?.neighbours.keys() ?? []) {
    if (!network.neighbours.has(address)) deletes.push({ kind: 'neighbour-delete', ...at, address })
  }
}
