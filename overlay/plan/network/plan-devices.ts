// Plans the bridge and the VXLAN device of one network. Besides the ops it returns `kept`, the part of the observed state
// that survives them: the entries are planned against that. Pure.

import type { IfName } from '#model/ids.ts'
import { isIpv4 } from '#model/ip.ts'
import type { Mac } from '#model/mac.ts'
import type { DesiredNetwork } from './desired.ts'
import { OVERLAY_GROUP } from './names.ts'
import type { ObservedBridge, ObservedDevice, ObservedEntry, ObservedVxlan, PortFlags } from './observed.ts'
import { PORT_FLAGS, VXLAN_TTL, type BridgeOp, type DeviceOp, type LinkChanges, type PortRole } from './op.ts'

type DevicePlan<T> = { readonly ops: readonly BridgeOp[]; readonly kept: T | undefined }

export function planBridge(network: DesiredNetwork, bridge: ObservedBridge | undefined): DevicePlan<ObservedBridge> {
  const { vni, alias, mtu } = network
  const device = network.bridge
  const mac = network.bridgeMac
  const ipv6 = network.told !== null ? 'quiet' : 'off'
  const create: BridgeOp = { kind: 'bridge-create', vni, device, alias, mac, mtu, ipv6 }
  if (bridge === undefined) return { ops: [create], kept: undefined }
  const changes: LinkChanges = {
    ...linkChanges(bridge, { alias, mtu, ipv6 }),
    ...(bridge.mac === mac ? {} : { mac }),
    ...(bridge.multicastSnooping === true ? { multicastSnooping: false } : {})
  }
  // A device that goes down or changes its address loses all its neighbour entries, permanent ones included.
  const flushed = changes.mac !== undefined || !bridge.up
  return { ops: linkSet({ vni, device, changes }), kept: flushed ? { ...bridge, neighbours: new Map() } : bridge }
}

export function planVxlan(network: DesiredNetwork, vxlan: ObservedVxlan | undefined): DevicePlan<ObservedVxlan> {
  const { vni, alias, mtu, bridge, port } = network
  const device = network.vxlan
  const create: BridgeOp = { kind: 'vxlan-create', vni, device, alias, bridge, local: network.vtep, port, mtu }
  if (vxlan === undefined) return { ops: [create], kept: undefined }
  // Without a local address it is one of IPv4.
  const isIpv4Device = vxlan.local === null || isIpv4(vxlan.local)
  if (vxlan.odd || vxlan.vni !== vni || vxlan.port !== port || isIpv4Device !== isIpv4(network.vtep)) {
    // The kernel cannot change these settings of an existing device.
    return { ops: [{ kind: 'device-delete', vni, device, ifindex: vxlan.ifindex }, create], kept: undefined }
  }
  const ops: BridgeOp[] = []
  if (vxlan.local !== network.vtep || vxlan.learning || vxlan.ttl !== VXLAN_TTL) {
    ops.push({ kind: 'vxlan-set', vni, device, local: network.vtep })
  }
  const enslave = vxlan.master !== bridge
  ops.push(
    ...linkSet({
      vni,
      device,
      changes: { ...linkChanges(vxlan, { alias, mtu }), ...(enslave ? { master: bridge } : {}) }
    })
  )
  if (enslave || !hasFlags(vxlan.flags, 'vxlan')) ops.push({ kind: 'port-set', vni, device, role: 'vxlan' })
  return { ops, kept: enslave ? { ...vxlan, entries: withoutBridged(vxlan.entries) } : vxlan }
}

/** The common settings that differ. */
export function linkChanges(
  device: ObservedDevice,
  want: { alias: string; mtu: number; ipv6?: 'off' | 'quiet' }
): LinkChanges {
  const { ipv6 = 'off' } = want
  return {
    ...(device.alias === want.alias ? {} : { alias: want.alias }),
    ...(device.group === OVERLAY_GROUP ? {} : { group: OVERLAY_GROUP }),
    ...(device.mtu === want.mtu ? {} : { mtu: want.mtu }),
    ...(device.ipv6 === ipv6 ? {} : { ipv6 }),
    ...(device.up ? {} : { up: true })
  }
}

export function linkSet(p: { vni: DesiredNetwork['vni']; device: IfName; changes: LinkChanges }): readonly DeviceOp[] {
  return Object.keys(p.changes).length === 0 ? [] : [{ kind: 'link-set', ...p }]
}

/** A flag that the kernel does not support counts as right: it cannot be set. */
export function hasFlags(flags: PortFlags | null, role: PortRole): boolean {
  const want = PORT_FLAGS[role]
  return (
    flags?.learning === want.learning &&
    flags.unicastFlood === want.unicastFlood &&
    (flags.neighSuppress === null || flags.neighSuppress === want.neighSuppress)
  )
}

/** A port that moves to another bridge loses its entries in the old one. */
function withoutBridged(entries: ReadonlyMap<Mac, ObservedEntry>): ReadonlyMap<Mac, ObservedEntry> {
  return new Map([...entries].filter(([, e]) => e.self).map(([mac, e]) => [mac, { ...e, bridged: 'none' }]))
}
