// The planner's view of the kernel: devices whose names have one of our forms, with their entries. A driver fills it in.
// A setting is null when the kernel does not support it. Pure.

import type { IfName, Vni } from '#model/ids.ts'
import type { Ip } from '#model/ip.ts'
import type { Mac } from '#model/mac.ts'
import type { ObservedEndpointShaping } from '../shaping/plan-shaping.ts'
import type { ShapingSupport } from '../shaping/queue.ts'
import type { ObservedSwitch } from './switch.ts'

/** Settings that all our devices have. */
export type ObservedDevice = {
  readonly name: IfName
  readonly ifindex: number
  readonly alias: string
  readonly group: number
  readonly mtu: number
  readonly up: boolean
  /**
   * What the host does with IPv6 on this device: nothing; or it has neither addresses nor routes by it, and ignores router
   * advertisements from containers, but a bridge answers neighbour solicitations there (`quiet`); or `on`.
   */
  readonly ipv6: 'off' | 'quiet' | 'on'
}

export type ObservedBridge = ObservedDevice & {
  readonly kind: 'bridge'
  readonly mac: Mac
  readonly multicastSnooping: boolean | null
  /** Neighbour entries; null marks one that is not permanent or has no usable MAC. */
  readonly neighbours: ReadonlyMap<Ip, Mac | null>
}

export type PortFlags = {
  readonly learning: boolean
  readonly unicastFlood: boolean
  readonly neighSuppress: boolean | null
}

/** A MAC behind the VXLAN device, in its own FDB, in the bridge's, or in both. */
export type ObservedEntry = {
  /** The destination in the device's FDB; null when there is no entry, or one that we would not make. */
  readonly vtep: Ip | null
  /** Does the device's own FDB have an entry? */
  readonly self: boolean
  /** The entry in the bridge's FDB for this port. */
  readonly bridged: 'static' | 'other' | 'none'
}

export type ObservedVxlan = ObservedDevice & {
  readonly kind: 'vxlan'
  readonly vni: number
  readonly local: Ip | null
  readonly port: number
  readonly ttl: number
  readonly learning: boolean
  /** Created with a remote, a lower device or external control, none of which can be unset: it must be recreated. */
  readonly odd: boolean
  /** Name of its bridge. */
  readonly master: string | null
  readonly flags: PortFlags | null
  readonly flood: ReadonlySet<Ip>
  /** Some flood entries have a form that we do not make (a port, VNI or lower device of their own, IPv6). */
  readonly floodOdd: boolean
  readonly entries: ReadonlyMap<Mac, ObservedEntry>
}

export type ObservedVeth = ObservedDevice & {
  readonly kind: 'veth'
  readonly master: string | null
  readonly flags: PortFlags | null
  /** MACs in the bridge's FDB for this port; `other` means not static. */
  readonly macs: ReadonlyMap<Mac, 'static' | 'other'>
}

/** Shapes traffic from a container; its queues are in `Observed.shaping`. */
export type ObservedIfb = ObservedDevice & { readonly kind: 'ifb' }

/** A device with a name of ours that is not ours. */
export type ForeignDevice = {
  readonly kind: 'foreign'
  readonly name: IfName
  readonly ifindex: number
  readonly reason: string
}

export type ObservedLink = ObservedBridge | ObservedVxlan | ObservedVeth | ObservedIfb | ForeignDevice

export type Observed = {
  /** By name. The host's other devices are not included. */
  readonly links: ReadonlyMap<string, ObservedLink>
  /** Set when only one network was read: then the absence of other networks' devices means nothing. */
  readonly scope: Vni | null
  /** Absent when it was not read: then no shaping is planned. */
  readonly shaping?: {
    readonly support: ShapingSupport
    readonly byVeth: ReadonlyMap<string, ObservedEndpointShaping>
  }
  /** Only from a driver with a switch. */
  readonly switch?: ObservedSwitch
}
