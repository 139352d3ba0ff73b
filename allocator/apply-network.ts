// Commands about networks.

import type { Command, Outcome } from '#model/command.ts'
import { formatIpv4, formatSubnet, isHostAddress, type Ipv4 } from '#model/ipv4.ts'
import type { Vni } from '#model/ids.ts'
import type { Network } from '#model/network.ts'
import { noNetwork, refuse } from './refuse.ts'
import type { Tables } from './tables.ts'

type Of<K extends Command['kind']> = Extract<Command, { readonly kind: K }>

export function createNetwork(tables: Tables, command: Of<'network-create'>): Outcome {
  const existing = tables.networks.get(command.name)?.network
  if (existing !== undefined) {
    if (command.requestId !== undefined && command.requestId === existing.requestId) return given(existing)
    return refuse('ERR_NETWORK_EXISTS', `network ${command.name} exists`, 'name')
  }
  // The first address, unless someone chose another: on every host the same.
  const gateway = command.gateway ?? ((command.subnet.base + 1) as Ipv4)
  if (!isHostAddress(command.subnet, gateway)) {
    const inside = formatSubnet(command.subnet)
    return refuse('ERR_INVALID', `gateway: ${formatIpv4(gateway)} is no host address of ${inside}`, 'gateway')
  }
  const vni = command.vni ?? (tables.vnis.peek() as Vni | null)
  if (vni === null) return refuse('ERR_VNI_EXHAUSTED', 'all 16,777,215 VNIs are given')
  if (!tables.vnis.isFree(vni)) {
    const owner = tables.networkByVni.get(vni) ?? 'nobody'
    return refuse('ERR_VNI_IN_USE', `vni: ${vni} belongs to network ${owner}`, 'vni')
  }
  if (command.vni === undefined) tables.vnis.takeAt(vni)
  else tables.vnis.claim(vni)
  const { kind: _, ...facts } = command
  const network: Network = { ...facts, vni, gateway }
  tables.addNetwork(network)
  return given(network)
}

export function updateNetwork(tables: Tables, command: Of<'network-update'>): Outcome {
  const table = tables.networks.get(command.name)
  if (table === undefined) return noNetwork(command.name)
  const network = { ...table.network, egressRate: command.egressRate ?? table.network.egressRate }
  tables.replaceNetwork(table, network)
  return given(network)
}

export function deleteNetwork(tables: Tables, command: Of<'network-delete'>): Outcome {
  const table = tables.networks.get(command.name)
  if (table === undefined) return noNetwork(command.name)
  const { size } = table.endpoints
  if (size > 0 && !command.force) {
    return refuse('ERR_NETWORK_IN_USE', `network ${command.name} has ${size} endpoints`, 'name')
  }
  tables.removeNetwork(table)
  return given(table.network)
}

function given(network: Network): Outcome {
  return { ok: true, result: { kind: 'network', network } }
}
