// The host side of one local endpoint whose veth exists: kept in its bridge, with its flags and its one MAC.

import type { DesiredEndpoint, DesiredNetwork } from './desired.ts'
import type { ObservedVeth } from './observed.ts'
import type { Op } from './op.ts'
import { hasFlags, linkChanges, linkSet } from './plan-devices.ts'

export function planEndpoint(p: {
  readonly network: DesiredNetwork
  readonly endpoint: DesiredEndpoint
  readonly link: ObservedVeth
  readonly devices: Op[]
  readonly adds: Op[]
  readonly deletes: Op[]
}): void {
  const { network, endpoint, link } = p
  const { vni, bridge: master, mtu } = network
  const { device, alias, mac } = endpoint
  const enslave = link.master !== master
  const changes = { ...linkChanges(link, { alias, mtu }), ...(enslave ? { master } : {}) }
  p.devices.push(...linkSet({ vni, device, changes }))
  if (enslave || !hasFlags(link.flags, 'container'))
    p.devices.push({ kind: 'port-set', vni, device, role: 'container' })
  if (enslave || link.macs.get(mac) !== 'static') p.adds.push({ kind: 'port-mac-set', vni, device, mac })
  for (const other of link.macs.keys()) {
    if (other !== mac) p.deletes.push({ kind: 'port-mac-delete', vni, device, mac: other })
  }
}
