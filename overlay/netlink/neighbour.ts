// Codec of FDB and neighbour entries (ndmsg). FDB entries have family AF_BRIDGE; NTF_SELF addresses the VXLAN device's own
// table (MAC -> VTEP), NTF_MASTER the bridge's (MAC -> port). Entries are set with NLM_F_REPLACE, never NLM_F_EXCL, so that
// a leftover entry cannot block the right one. Pure.

import { familyOf, type Family, type Ip } from '#model/ip.ts'
import { macAt, type Mac } from '#model/mac.ts'
import {
  afOf,
  align4,
  attributeLength,
  attributeType,
  ipv4At,
  readIp,
  u16At,
  u32At,
  Writer,
  type Message
} from './bytes.ts'
import * as k from './constants.ts'

/** The MAC of flood entries (bridge(8)). */
export const FLOOD_MAC = '00:00:00:00:00:00' as Mac

const REPLACE = k.NLM_F_CREATE | k.NLM_F_REPLACE
/** `bridge fdb` shows it as static. NOARP exempts the entry from the VXLAN device's ageing. */
const STATIC = k.NUD_NOARP | k.NUD_REACHABLE

/** Sets a unicast entry in both tables, the device's and the bridge's. */
export function setTunnelEntry(ifindex: number, entry: { mac: Mac; vtep: Ip }): Message {
  return fdb({ ifindex, flags: k.NTF_SELF | k.NTF_MASTER, state: STATIC, mac: entry.mac })
    .attributeIp(k.NDA_DST, entry.vtep)
    .message(k.RTM_NEWNEIGH, REPLACE)
}

/** Sets a MAC behind a bridge port. */
export function setPortEntry(ifindex: number, mac: Mac): Message {
  return fdb({ ifindex, flags: k.NTF_MASTER, state: STATIC, mac }).message(k.RTM_NEWNEIGH, REPLACE)
}

/** Reads a MAC's entry in the port's bridge, whichever port it is behind. Fails with ENOENT when there is none. */
export function getPortEntry(p: { ifindex: number; mac: Mac }): Message {
  return fdb({ ...p, flags: k.NTF_MASTER, state: 0 }).message(k.RTM_GETNEIGH, 0)
}

export function addFloodEntry(ifindex: number, vtep: Ip): Message {
  return fdb({ ifindex, flags: k.NTF_SELF, state: k.NUD_PERMANENT | k.NUD_NOARP, mac: FLOOD_MAC })
    .attributeIp(k.NDA_DST, vtep)
    .message(k.RTM_NEWNEIGH, k.NLM_F_CREATE | k.NLM_F_APPEND)
}

/** Without a VTEP the entry is deleted with all its destinations. */
export function deleteEntry(p: { ifindex: number; mac: Mac; table: 'self' | 'master'; vtep?: Ip }): Message {
  const writer = fdb({
    ifindex: p.ifindex,
    flags: p.table === 'self' ? k.NTF_SELF : k.NTF_MASTER,
    state: 0,
    mac: p.mac
  })
  if (p.vtep !== undefined) writer.attributeIp(k.NDA_DST, p.vtep)
  return writer.message(k.RTM_DELNEIGH, 0)
}

export function setNeighbour(ifindex: number, entry: { address: Ip; mac: Mac }): Message {
  return ndmsg({ family: afOf(familyOf(entry.address)), ifindex, state: k.NUD_PERMANENT, flags: 0 })
    .attributeIp(k.NDA_DST, entry.address)
    .attributeMac(k.NDA_LLADDR, entry.mac)
    .message(k.RTM_NEWNEIGH, REPLACE)
}

export function deleteNeighbour(ifindex: number, address: Ip): Message {
  return ndmsg({ family: afOf(familyOf(address)), ifindex, state: 0, flags: 0 })
    .attributeIp(k.NDA_DST, address)
    .message(k.RTM_DELNEIGH, 0)
}

/** Dump request for the FDB entries of all devices, of one, or of the ports of one bridge. */
export function getFdb(filter: { device?: number; bridge?: number } = {}): Message {
  const writer = ndmsg({ family: k.AF_BRIDGE, ifindex: filter.device ?? 0, state: 0, flags: 0 })
  if (filter.bridge !== undefined) writer.attributeU32(k.NDA_MASTER, filter.bridge)
  return writer.message(k.RTM_GETNEIGH, 0)
}

/** Dump request for the neighbour entries of a family, of all devices or of one. */
export function getNeighbours(family: Family, device?: number): Message {
  const writer = ndmsg({ family: afOf(family), ifindex: 0, state: 0, flags: 0 })
  if (device !== undefined) writer.attributeU32(k.NDA_IFINDEX, device)
  return writer.message(k.RTM_GETNEIGH, 0)
}

export type NeighbourInfo = {
  readonly family: number
  readonly ifindex: number
  readonly state: number
  readonly flags: number
  readonly mac: Mac | null
  /** The VTEP of an FDB entry, the address of a neighbour entry; null when absent or malformed. */
  readonly destination: Ip | null
  /** Ifindex of the bridge for an entry of a bridge's table; 0 otherwise. */
  readonly master: number
  /** Has a port, VNI, lower device or nexthop of its own, or a malformed destination: we never make such an entry. */
  readonly extra: boolean
}

const HEADER_BYTES = 12

/** Decodes the payload of an RTM_NEWNEIGH; null when it is too short to be one. */
export function decodeNeighbour(payload: Uint8Array): NeighbourInfo | null {
  if (payload.length < HEADER_BYTES) return null
  let mac: Mac | null = null
  let destination: Ip | null = null
  let master = 0
  let extra = false
  for (let at = HEADER_BYTES, length: number; (length = attributeLength(payload, at)) > 0; at += align4(length)) {
    const value = at + 4
    const bytes = length - 4
    switch (attributeType(payload, at)) {
      case k.NDA_LLADDR:
        mac = bytes === 6 ? macAt(payload, value) : null
        break
      case k.NDA_DST:
        destination = bytes === 4 ? ipv4At(payload, value) : readIp(payload.subarray(value, value + bytes))
        extra ||= destination === null
        break
      case k.NDA_MASTER:
        master = bytes < 4 ? 0 : u32At(payload, value)
        break
      case k.NDA_PORT:
      case k.NDA_VNI:
      case k.NDA_IFINDEX:
      case k.NDA_SRC_VNI:
      case k.NDA_NH_ID:
        extra = true
        break
    }
  }
  return {
    family: payload[0] ?? 0,
    ifindex: u32At(payload, 4),
    state: u16At(payload, 8),
    flags: payload[10] ?? 0,
    mac,
    destination,
    master,
    extra
  }
}

function fdb(p: { ifindex: number; flags: number; state: number; mac: Mac }): Writer {
  return ndmsg({ family: k.AF_BRIDGE, ...p }).attributeMac(k.NDA_LLADDR, p.mac)
}

/** struct ndmsg: family, padding, ifindex, state, flags, type. */
function ndmsg(p: { family: number; ifindex: number; state: number; flags: number }): Writer {
  return new Writer().u8(p.family).u8(0).u16(0).u32(p.ifindex).u16(p.state).u8(p.flags).u8(0)
}
