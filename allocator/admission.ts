// What is checked of a request before it enters the log. The leader checks a client host's: what only its own connections
// show. Both it and every proposer check that all hosts can read it. All else is checked when the request is applied
// (allowed.ts). Pure.

import { LABELS, needsBothFamilies, rulesNeeded, SERVICES, type Command, type Refusal } from '#model/command.ts'
import type { PeerId } from '#model/ids.ts'
import { formatIp, formatSubnet, singleAddress, subnetContains, type Ip, type Subnet } from '#model/ip.ts'
import { whyNotAllowed } from './allowed.ts'
import { whyOtherFamily, whyVtepTaken } from './apply-host.ts'
import { refuse, refuseOldRules } from './refuse.ts'
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
    const early = whyNotYet(state, command)
    if (early !== null) return early
    const connectedFrom = addresses()
    const isProven = connectedFrom.includes(vtep) || state.host(peer)?.vtep === vtep
    if (isProven || vteps.some(subnet => subnetContains(subnet, vtep))) {
      return whyNotAllowed(state.tables, command, peer)
    }
    return whyVtepTaken(state.tables, command.host) ?? notProven(vtep, connectedFrom)
  }
  // Ownership may have changed when the request is applied; it is checked then.
  return whyNotYet(state, command)
}

/**
 * Why this command must not enter the log before the rules of the cluster are raised; null if it may. A host of an older version
 * that met it could only stop, or would take another meaning from it (docs/adr/0054).
 */
export function whyNotYet(state: ClusterState, command: Command): Refusal | null {
  if (command.kind === 'host-register') return whyOtherFamily(state.tables, command.host)
  const needed = rulesNeeded(command)
  if (state.rules >= needed) return null
  return refuseOldRules(state.tables, fieldOfNew(command, needed), needed)
}

function fieldOfNew(command: Command, needed: number): string {
  if (needed >= SERVICES) return 'name'
  return needed >= LABELS ? 'labels' : fieldOfIpv6(command)
}

function fieldOfIpv6(command: Command): string {
  if (command.kind !== 'network-create' && command.kind !== 'network-update') return 'address'
  const { egressV6: _, ...rest } = command
  return needsBothFamilies(rest) ? 'subnet' : 'egressV6'
}

function notProven(vtep: Ip, addresses: readonly Ip[]): Refusal {
  const from = addresses.map(address => formatIp(address)).join(', ')
  const what = `${formatIp(vtep)} is not the address that this host is connected from (${from})`
  const remedy = `to approve it, add it to the configuration of every server: overlay: { vteps: [${formatSubnet(singleAddress(vtep))}] }`
  return refuse('ERR_NOT_ALLOWED', `vtep: ${what}; ${remedy}`, 'vtep')
}
