// Parses a member record of Serf's RPC. Names and tags are untrusted: they come from other machines.

import { asVxmeshError, invalid } from '#model/errors.ts'
import { parseHostName } from '#model/ids.ts'
import { isIpv4, type Ip } from '#model/ip.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import { ipv6OfBytes } from '#model/ipv6.ts'
import { PROTOCOL_VERSION, type Member, type MemberStatus } from '#model/member.ts'
import { decodeTags } from './tags.ts'

/** A Serf member that is not a vxmesh agent, or whose record is invalid. */
export type Foreign = { readonly name: string; readonly reason: string }

type ReadMember =
  { readonly kind: 'member'; readonly member: Member } | { readonly kind: 'foreign'; readonly foreign: Foreign }

const STATUSES: readonly MemberStatus[] = ['alive', 'leaving', 'left', 'failed']

/** Never throws: an invalid record is foreign, with the reason. */
export function readMember(record: unknown): ReadMember {
  const fields = typeof record === 'object' && record !== null ? (record as Readonly<Record<string, unknown>>) : {}
  const name = typeof fields['Name'] === 'string' ? fields['Name'] : ''
  try {
    const tags = decodeTags(asRecord(fields['Tags']))
    if (tags.protocol !== PROTOCOL_VERSION)
      throw invalid('vx', `speaks protocol ${tags.protocol}, not ${PROTOCOL_VERSION}`)
    const { peerId, role, vtep, p2pPort, protocol, bootstrapExpect } = tags
    const address = readAddress(fields['Addr'])
    if (isIpv4(address) !== isIpv4(vtep)) throw invalid('vtep', 'is not of the family of its address')
    const member: Member = {
      name: parseHostName(name),
      address,
      port: readPort(fields['Port']),
      status: readStatus(fields['Status']),
      role,
      peerId,
      vtep,
      p2pPort,
      protocol,
      bootstrapExpect,
      ...(tags.seed === undefined ? {} : { seed: tags.seed }),
      ...(tags.clusterId === undefined ? {} : { clusterId: tags.clusterId })
    }
    return { kind: 'member', member }
  } catch (err) {
    return { kind: 'foreign', foreign: { name: name.slice(0, 128), reason: asVxmeshError(err).message } }
  }
}

/** Do both give the same reading? False in doubt. */
export function isSameRecord(a: unknown, b: unknown): boolean {
  const [one, two] = [a, b] as readonly (Readonly<Record<string, unknown>> | null | undefined)[]
  if (typeof one !== 'object' || typeof two !== 'object' || one === null || two === null) return false
  return (
    one['Name'] === two['Name'] &&
    one['Status'] === two['Status'] &&
    one['Port'] === two['Port'] &&
    isSameAddress(one['Addr'], two['Addr']) &&
    areSameTags(one['Tags'], two['Tags'])
  )
}

function isSameAddress(a: unknown, b: unknown): boolean {
  if (!(a instanceof Uint8Array) || !(b instanceof Uint8Array) || a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}

function areSameTags(a: unknown, b: unknown): boolean {
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false
  const [one, two] = [a, b] as readonly Readonly<Record<string, unknown>>[]
  for (const key in one) if (one[key] !== two?.[key]) return false
  for (const key in two) if (one?.[key] === undefined) return false
  return true
}

/** Four bytes, or sixteen; an IPv4-mapped address is an IPv4 one. */
function readAddress(value: unknown): Ip {
  if (!(value instanceof Uint8Array)) throw invalid('Addr', 'is not an address')
  const mapped =
    value.length === 16 && value.subarray(0, 10).every(b => b === 0) && value[10] === 255 && value[11] === 255
  if (value.length === 16 && !mapped) return ipv6OfBytes(value)
  const bytes = mapped ? value.subarray(12) : value
  if (bytes.length !== 4) throw invalid('Addr', 'is not an IP address')
  return bytes.reduce((sum, byte) => sum * 256 + byte, 0) as Ipv4
}

function readPort(value: unknown): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 1 || value > 65_535) {
    throw invalid('Port', 'is not a port')
  }
  return value
}

function readStatus(value: unknown): MemberStatus {
  const status = STATUSES.find(known => known === value)
  if (status === undefined) throw invalid('Status', 'is unknown')
  return status
}

function asRecord(value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null) throw invalid('Tags', 'are missing')
  return value as Readonly<Record<string, unknown>>
}
