// Ops: one idempotent kernel change each, with the network it belongs to. Pure.

import type { IfName, Vni } from '#model/ids.ts'
import { formatIp, type Ip } from '#model/ip.ts'
import type { Mac } from '#model/mac.ts'
import type { ShapingChange } from '../shaping/plan-shaping.ts'
import type { FlowChange, PortMark } from './switch.ts'

/** The settings that differ. Only these are written. */
export type LinkChanges = {
  readonly alias?: string
  readonly group?: number
  readonly mtu?: number
  readonly mac?: Mac
  readonly master?: IfName
  /** See ObservedDevice. */
  readonly ipv6?: 'off' | 'quiet'
  readonly multicastSnooping?: false
  readonly up?: true
}

/** `vni` is null when the network is unknown, as for a veth that is in none of our bridges. */
type Common = { readonly vni: Vni | null; readonly device: IfName }

/** Ops on single devices, the same under every driver. */
export type DeviceOp = Common &
  (
    | { readonly kind: 'link-set'; readonly changes: LinkChanges }
    | {
        readonly kind: 'shape'
        readonly ifb: IfName
        readonly alias: string
        readonly mtu: number
        readonly changes: readonly ShapingChange[]
      }
    /** By ifindex, so that a device recreated under the same name is safe. */
    | { readonly kind: 'device-delete'; readonly ifindex: number }
  )

/** Ops on entries of VXLAN devices and bridges. */
export type EntryOp = Common &
  (
    | { readonly kind: 'flood-add' | 'flood-delete'; readonly vtep: Ip }
    | { readonly kind: 'flood-clear' }
    | { readonly kind: 'fdb-set'; readonly mac: Mac; readonly vtep: Ip }
    | { readonly kind: 'fdb-delete'; readonly mac: Mac; readonly self: boolean; readonly bridged: boolean }
    | { readonly kind: 'port-mac-set' | 'port-mac-delete'; readonly mac: Mac }
    | { readonly kind: 'neighbour-set'; readonly address: Ip; readonly mac: Mac }
    | { readonly kind: 'neighbour-delete'; readonly address: Ip }
  )

/** Forwarding by kernel bridges and VXLAN devices. */
export type BridgeOp =
  | DeviceOp
  | EntryOp
  | (Common &
      (
        | {
            readonly kind: 'bridge-create'
            readonly alias: string
            readonly mac: Mac
            readonly mtu: number
            readonly ipv6: 'off' | 'quiet'
          }
        | {
            readonly kind: 'vxlan-create'
            readonly alias: string
            readonly bridge: IfName
            readonly local: Ip
            readonly port: number
            readonly mtu: number
          }
        | { readonly kind: 'vxlan-set'; readonly local: Ip }
        | { readonly kind: 'port-set'; readonly role: PortRole }
      ))

/** Forwarding by one switch. */
export type SwitchOp =
  | DeviceOp
  | (Common &
      /** Creates or repairs the switch and its tunnel port; `device` is the switch. */
      (
        | { readonly kind: 'switch-set' }
        /** `renew`: the switch still holds a deleted device of this name. */
        | {
            readonly kind: 'switch-port-set'
            readonly number: number
            readonly mark: PortMark
            readonly renew: boolean
          }
        | { readonly kind: 'switch-port-delete' }
        | { readonly kind: 'flows-set' | 'flows-delete'; readonly change: FlowChange }
      ))

export type Op = BridgeOp | SwitchOp

export type OpKind = Op['kind']

/** What a bridge port leads to. */
export type PortRole = 'vxlan' | 'container'

/** TTL of the outer packets. Fixed, so that a container can neither see nor choose it. */
export const VXLAN_TTL = 64

/** Bridge port flags by role. Learning is off everywhere: every entry follows from the replicated state. */
export const PORT_FLAGS = {
  vxlan: { learning: false, unicastFlood: true, neighSuppress: true },
  // Unknown unicast is flooded into the tunnel only: a container must not see other containers' traffic.
  container: { learning: false, unicastFlood: false, neighSuppress: false }
} as const satisfies Record<PortRole, object>

export type OpTraits = {
  /** Must wait while the replicated state may be stale. */
  readonly removes: boolean
  /** What it changes: a device, entries in a device, or the switch. */
  readonly target: 'device' | 'entry' | 'switch'
}

const sets = (target: OpTraits['target']): OpTraits => ({ removes: false, target })
const removes = (target: OpTraits['target']): OpTraits => ({ removes: true, target })

export const OP_TRAITS: Readonly<Record<OpKind, OpTraits>> = {
  'bridge-create': sets('device'),
  'vxlan-create': sets('device'),
  'vxlan-set': sets('device'),
  'link-set': sets('device'),
  'port-set': sets('device'),
  shape: sets('device'),
  'device-delete': removes('device'),
  'flood-add': sets('entry'),
  'flood-delete': removes('entry'),
  'flood-clear': removes('entry'),
  'fdb-set': sets('entry'),
  'fdb-delete': removes('entry'),
  'port-mac-set': sets('entry'),
  'port-mac-delete': removes('entry'),
  'neighbour-set': sets('entry'),
  'neighbour-delete': removes('entry'),
  'switch-set': sets('switch'),
  'switch-port-set': sets('switch'),
  'switch-port-delete': removes('switch'),
  'flows-set': sets('switch'),
  'flows-delete': removes('switch')
}

export function isEntryOp(op: Op): op is EntryOp {
  return OP_TRAITS[op.kind].target === 'entry'
}

/** One line for the log and for `status`. */
export function describe(op: Op): string {
  const at = op.vni === null ? op.device : `${op.device} (vni ${op.vni})`
  switch (op.kind) {
    case 'bridge-create':
      return `create bridge ${at}, MTU ${op.mtu}`
    case 'vxlan-create':
      return `create VXLAN device ${at} from ${formatIp(op.local)} port ${op.port} in ${op.bridge}, MTU ${op.mtu}`
    case 'vxlan-set':
      return `set VXLAN device ${at} to local ${formatIp(op.local)}, no learning, ttl ${VXLAN_TTL}`
    case 'link-set':
      return `set ${at}: ${Object.entries(op.changes)
        .map(([name, value]) => `${name} ${value}`)
        .join(', ')}`
    case 'port-set':
      return `set bridge port ${at} for a ${op.role}`
    case 'shape':
      return `shape ${at}: ${op.changes.map(({ kind }) => kind).join(', ')}`
    case 'device-delete':
      return `delete device ${at}, ifindex ${op.ifindex}`
    case 'flood-add':
      return `add flood entry ${formatIp(op.vtep)} to ${at}`
    case 'flood-delete':
      return `delete flood entry ${formatIp(op.vtep)} from ${at}`
    case 'flood-clear':
      return `delete all flood entries of ${at}`
    case 'fdb-set':
      return `set FDB entry ${op.mac} -> ${formatIp(op.vtep)} on ${at}`
    case 'fdb-delete':
      return `delete FDB entry ${op.mac} from ${at}`
    case 'port-mac-set':
      return `set ${op.mac} behind bridge port ${at}`
    case 'port-mac-delete':
      return `delete ${op.mac} from bridge port ${at}`
    case 'neighbour-set':
      return `set neighbour entry ${formatIp(op.address)} -> ${op.mac} on ${at}`
    case 'neighbour-delete':
      return `delete neighbour entry ${formatIp(op.address)} from ${at}`
    case 'switch-set':
      return `set switch ${at} with its tunnel`
    case 'switch-port-set':
      return `set ${at} as port ${op.number} of the switch`
    case 'switch-port-delete':
      return `delete port ${at} of the switch`
    case 'flows-set':
    case 'flows-delete':
      return `change flows of ${at}: ${op.change.set.size} set, ${op.change.remove.length} deleted`
  }
}
