// Executes one device op. A device is created down, in our group (set by the same message, so that it is recognised after a
// crash), then gets its alias and settings, and is set up last.

import type { IfName } from '#model/ids.ts'
import {
  createBridge,
  createVxlan,
  setBridgePort,
  setLink,
  setMulticastSnoopingOff,
  setVxlan
} from '../netlink/link.ts'
import { OVERLAY_GROUP } from '../plan/network/names.ts'
import { PORT_FLAGS, VXLAN_TTL, type BridgeOp, type EntryOp, type LinkChanges } from '../plan/network/op.ts'
import { executeShaping } from '../shaping/execute.ts'
import { requireLink, restrictIpv6, type Kernel } from '../kernel/kernel.ts'

/** @throws ERR_KERNEL */
export function executeDeviceOp(kernel: Kernel, op: Exclude<BridgeOp, EntryOp | { kind: 'device-delete' }>): void {
  const { socket } = kernel
  const { device } = op
  switch (op.kind) {
    case 'bridge-create':
      socket.request(createBridge({ name: device, mac: op.mac, mtu: op.mtu, group: OVERLAY_GROUP }), 'create')
      applyChanges(kernel, device, { alias: op.alias, ipv6: op.ipv6, up: true })
      break
    case 'vxlan-create': {
      const { local, port, mtu } = op
      const master = requireLink(socket, op.bridge).ifindex
      const vni = op.vni ?? 0
      socket.request(
        createVxlan({
          name: device,
          vni,
          local,
          port,
          ttl: VXLAN_TTL,
          mtu,
          group: OVERLAY_GROUP,
          master
        }),
        'create'
      )
      socket.request(setBridgePort(device, PORT_FLAGS.vxlan), 'set bridge port')
      applyChanges(kernel, device, { alias: op.alias, ipv6: 'off', up: true })
      break
    }
    case 'vxlan-set':
      socket.request(setVxlan(device, { local: op.local, ttl: VXLAN_TTL }), 'change')
      break
    case 'link-set':
      applyChanges(kernel, device, op.changes)
      break
    case 'port-set':
      socket.request(setBridgePort(device, PORT_FLAGS[op.role]), 'set bridge port')
      break
    case 'shape':
      executeShaping(kernel, { ...op, veth: device }, op.changes)
      break
  }
}

function applyChanges(kernel: Kernel, device: IfName, changes: LinkChanges): void {
  const { socket } = kernel
  const { ipv6, multicastSnooping, up, master, ...rest } = changes
  const settings = { ...rest, ...(master === undefined ? {} : { master: requireLink(socket, master).ifindex }) }
  if (Object.keys(settings).length > 0) socket.request(setLink(device, settings), 'set')
  if (multicastSnooping === false) socket.request(setMulticastSnoopingOff(device), 'switch multicast snooping off')
  if (ipv6 !== undefined) restrictIpv6(kernel, [{ ref: device, name: device }], ipv6)
  if (up === true) socket.request(setLink(device, { up: true }), 'set up')
}
