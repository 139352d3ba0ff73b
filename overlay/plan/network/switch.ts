// A programmable switch as the planner sees it: one for the whole host, with ports and flows. Networks then have no
// devices of their own. Pure.

import type { Vni } from '#model/ids.ts'

/**
 * What the veths are attached to: our bridges or a switch. A userspace switch forwards packets as it receives them,
 * including checksums that the kernel left for the network card to complete.
 */
export type Carrier = 'bridge' | 'switch' | 'userspace-switch'

/** Actions by table, priority and match, which together identify a flow. */
export type Flows = ReadonlyMap<string, string>

/** The network of a flow; 0 for flows that belong to none. */
export type FlowOwner = Vni | 0

/** A difference between two sets of flows. */
export type FlowChange = {
  readonly owner: FlowOwner
  /** Flows to add or modify. */
  readonly set: Flows
  readonly remove: readonly string[]
}

/** Identifies the owner of one of our ports; stored in the switch's database. */
export type PortMark = { readonly vni: Vni; readonly alias: string; readonly mac: string }

export type ObservedPort = {
  /** 0: the switch has not opened the device, or failed to. */
  readonly number: number
  /** The number that was requested; 0: none. */
  readonly requested: number
  /** Null: not our port. */
  readonly mark: PortMark | null
  /** Of the device that the switch has opened; 0: not reported, for example since its database was recreated. */
  readonly ifindex: number
}

export type ObservedSwitch = {
  /** Does it exist with its tunnel port, both configured as they should be? */
  readonly right: boolean
  /** All ports by device, including the tunnel port and foreign ports. */
  readonly ports: ReadonlyMap<string, ObservedPort>
  /** Ifindex of the routers' port devices that exist, by name. */
  readonly routers: ReadonlyMap<string, number>
  /** By owner; only of the owners that were read. */
  readonly flows: ReadonlyMap<FlowOwner, Flows>
}
