// What the leader checks of a client host's request before it enters the log: what only its own connections show. All else is
// checked when the request is applied (allowed.ts). Pure.

import type { Command, Refusal } from '#model/command.ts'
import type { PeerId } from '#model/ids.ts'
import { formatIp, ipv4Of, ipv4SubnetOf, type Ip, type Subnet } from '#model/ip.ts'
import { broadcastAddress } from '#model/ipv4.ts'
import { whyNotAllowed } from './allowed.ts'
import { whyVtepTaken } from './apply-host.ts'
import { refuse } from './refuse.ts'
import type { ClusterState } from './state-machine.ts'

/** A client host that requests a change, as the leader sees it. */
export type Requester = {
  readonly peer: PeerId
  /** The addresses that its connections come from; read for a registration alone. */
  readonly addresses: () => readonly Ip[]
}

export type AdmissionOptions = {
  /** Addresses that client hosts may have as VTEPs beside those that they are connected from. */
  readonly vteps: readonly Subnet[]
}

/** Why a client host's request does not enter the log; null if it may. */
export function whyNotAdmitted(
  state: ClusterState,
  command: Command,
  { peer, addresses, vteps }: Requester & AdmissionOptions
): Refusal | null {
  if (command.kind === 'host-register') {
    const { vtep } = command.host
    const connectedFrom = addresses()
    const isProven = connectedFrom.includes(vtep) || state.host(peer)?.vtep === vtep
    if (isProven || vteps.some(subnet => isWithin(subnet, vtep))) {
      return whyNotAllowed(state.tables, command, peer)
    }
    return whyVtepTaken(state.tables, command.host) ?? notProven(vtep, connectedFrom)
  }
  // Ownership may have changed when the request is applied; it is checked then.
  return null
}

function isWithin(subnet: Subnet, address: Ip): boolean {
  const range = ipv4SubnetOf(subnet)
  return ipv4Of(address) >= range.base && ipv4Of(address) <= broadcastAddress(range)
}

function notProven(vtep: Ip, addresses: readonly Ip[]): Refusal {
  const from = addresses.map(address => formatIp(address)).join(', ')
  const what = `${formatIp(vtep)} is not the address that this host is connected from (${from})`
  const remedy = `to approve it, add it to the configuration of every server: overlay: { vteps: [${formatIp(vtep)}/32] }`
  return refuse('ERR_NOT_ALLOWED', `vtep: ${what}; ${remedy}`, 'vtep')
}
