// What the kernel holds of ours, as the planner sees it: devices whose names have one of our forms, with their entries.
// A driver fills it in; null means that this kernel does not know the setting.

import type { IfName, Vni } from '#model/ids.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import type { Mac } from '#model/mac.ts'
import type { ObservedEndpointShaping } from '../shaping/plan-shaping.ts'
import type { ShapingSupport } from '../shaping/queue.ts'
import type { ObservedSwitch } from './switch.ts'

/** What all our devices have in common. */
export type ObservedDevice = {
  readonly name: IfName
  readonly ifindex: number
  readonly alias: string
  readonly group: number
  readonly mtu: number
  readonly up: boolean
  /** No IPv6 on the host's side: no link-local address, no router advertisement from a container is heard. */
  readonly ipv6Off: boolean
}

export type ObservedBridge = ObservedDevice & {
  readonly kind: 'bridge'
  readonly mac: Mac
  readonly multicastSnooping: boolean | null
  /** Permanent neighbour entries; null stands for an entry that is not permanent or has no usable MAC. */
  readonly neighbours: ReadonlyMap<Ipv4, Mac | null>
}

export type PortFlags = {
  readonly learning: boolean
  readonly unicastFlood: boolean
  readonly neighSuppress: boolean | null
}

/** A MAC of the VXLAN device: in its own FDB, in the bridge's, or in both. */
export type ObservedEntry = {
  /** Where the device sends it; null when there is no such entry, or one of another form than ours. */
  readonly vtep: Ipv4 | null
  /** Is there an entry of the device itself at all? */
  readonly self: boolean
  /** Its entry in the bridge for this port. */
  readonly bridged: 'static' | 'other' | 'none'
}

export type ObservedVxlan = ObservedDevice & {
  readonly kind: 'vxlan'
  readonly vni: number
  readonly local: Ipv4 | null
  readonly port: number
  readonly ttl: number
  readonly learning: boolean
  /** Created with a remote, a lower device or external control: settings that cannot be changed back. */
  readonly odd: boolean
  /** Name of the bridge that it is a port of. */
  readonly master: string | null
  readonly flags: PortFlags | null
  readonly flood: ReadonlySet<Ipv4>
  /** There are flood entries of another form than ours (own port, VNI or lower device, IPv6). */
  readonly floodOdd: boolean
  readonly entries: ReadonlyMap<Mac, ObservedEntry>
}

export type ObservedVeth = ObservedDevice & {
  readonly kind: 'veth'
  readonly master: string | null
  readonly flags: PortFlags | null
  /** MACs in the bridge for this port; `other` is not static. */
  readonly macs: ReadonlyMap<Mac, 'static' | 'other'>
}

/** Shapes what a container sends; its queues are in `Observed.shaping`. */
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
  /** By name. Other devices of the host are not here. */
  readonly links: ReadonlyMap<string, ObservedLink>
  /** Set when only one network was looked at: then a missing device elsewhere means nothing. */
  readonly scope: Vni | null
  /** By veth. Absent when it was not looked at: then nothing of it is planned. */
  readonly shaping?: {
    readonly support: ShapingSupport
    readonly byVeth: ReadonlyMap<string, ObservedEndpointShaping>
  }
  /** Where the driver has one. */
  readonly switch?: ObservedSwitch
}
