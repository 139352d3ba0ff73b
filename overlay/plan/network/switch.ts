// A programmable switch as the planner sees it: one for the whole host, with ports and flows. Under it a network has no
// devices of its own.

import type { Vni } from '#model/ids.ts'

/**
 * What the host's ends of veths are ports of: bridges of ours, or a switch. One in user space sends on what it was given,
 * also a checksum that the kernel has left for a network card to finish.
 */
export type Carrier = 'bridge' | 'switch' | 'userspace-switch'

/** Table, priority and match, which name a flow, to its actions. */
export type Flows = ReadonlyMap<string, string>

/** 0: no network's. */
export type FlowOwner = Vni | 0

/** A difference between two sets of flows. */
export type FlowChange = {
  readonly owner: FlowOwner
  /** Made, or given other actions. */
  readonly set: Flows
  readonly remove: readonly string[]
}

/** What is written next to a port of ours: whose it is. */
export type PortMark = { readonly vni: Vni; readonly alias: string; readonly mac: string }

export type ObservedPort = {
  /** 0: the switch could not open the device, or has not yet. */
  readonly number: number
  /** The number that was asked for; 0: none. */
  readonly requested: number
  /** Null: somebody else's. */
  readonly mark: PortMark | null
  /** Of the device that the switch has opened; 0: it has not said so, perhaps only since its database began anew. */
  readonly ifindex: number
}

export type ObservedSwitch = {
  /** Is it there with its tunnel, as it should be? */
  readonly right: boolean
  /** By device: all ports, the tunnel's and other people's included. */
  readonly ports: ReadonlyMap<string, ObservedPort>
  /** The routers' devices that are there, by name, with their index. */
  readonly routers: ReadonlyMap<string, number>
  /** Of all owners, or of those that were looked at. */
  readonly flows: ReadonlyMap<FlowOwner, Flows>
}
