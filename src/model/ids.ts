// Branded identifiers, and the parsers that validate them. Outside text becomes an identifier only through a parser.

import type { Brand } from './brand.ts'
import { invalid } from './errors.ts'

/** VXLAN network identifier, 24 bits (RFC 7348 section 5); 0 is not used. */
export type Vni = Brand<number, 'Vni'>
/** libp2p peer id in base58: the identity of a host. */
export type PeerId = Brand<string, 'PeerId'>
/** A host's name as Serf knows it. */
export type HostName = Brand<string, 'HostName'>
export type NetworkName = Brand<string, 'NetworkName'>
/** A service's name, unique in its network. */
export type ServiceName = Brand<string, 'ServiceName'>
export type PolicyName = Brand<string, 'PolicyName'>
/** A Kubernetes namespace's name. */
export type NamespaceName = Brand<string, 'NamespaceName'>
export type ContainerId = Brand<string, 'ContainerId'>
/** A Linux interface name, at most 15 bytes. */
export type IfName = Brand<string, 'IfName'>
/** 1-based position in the replicated log; 0 is "before the first entry". */
export type LogIndex = Brand<number, 'LogIndex'>
/** Raft term, monotone; 0 is "before the first election". */
export type Term = Brand<number, 'Term'>
/** Hex id of a cluster, fixed at bootstrap. */
export type ClusterId = Brand<string, 'ClusterId'>

export const VNI_MAX = 0xffffff

const NAME = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/
const CONTAINER_ID = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/
const IFNAME = /^[^\s/:%\0-\x20\x7f-\uffff]{1,15}$/
const PEER_ID = /^[1-9A-HJ-NP-Za-km-z]{40,80}$/

/** A VNI from a number or its decimal text. @throws ERR_INVALID */
export function parseVni(value: number | string, field = 'vni'): Vni {
  const n = typeof value === 'string' ? (/^[0-9]{1,8}$/.test(value) ? Number(value) : NaN) : value
  if (!Number.isInteger(n) || n < 1 || n > VNI_MAX) {
    throw invalid(field, `must be an integer from 1 to ${VNI_MAX}, got ${quote(value)}`)
  }
  return n as Vni
}

/** A tenant network's name: a DNS label. @throws ERR_INVALID */
export function parseNetworkName(text: string, field = 'name'): NetworkName {
  return match({ text, field, pattern: NAME, rule: NAME_RULE }) as NetworkName
}

/** A service's name: a DNS label. @throws ERR_INVALID */
export function parseServiceName(text: string, field = 'name'): ServiceName {
  return match({ text, field, pattern: NAME, rule: NAME_RULE }) as ServiceName
}

/** A policy's name, unique in its network: a DNS label. @throws ERR_INVALID */
export function parsePolicyName(text: string, field = 'name'): PolicyName {
  return match({ text, field, pattern: NAME, rule: NAME_RULE }) as PolicyName
}

/** A Kubernetes namespace's name: a DNS label (RFC 1123). @throws ERR_INVALID */
export function parseNamespaceName(text: string, field = 'namespace'): NamespaceName {
  return match({ text, field, pattern: NAME, rule: NAME_RULE }) as NamespaceName
}

/** A host's name: a DNS label. @throws ERR_INVALID */
export function parseHostName(text: string, field = 'name'): HostName {
  return match({ text, field, pattern: NAME, rule: NAME_RULE }) as HostName
}

/** A container id as the CNI specification allows it. @throws ERR_INVALID */
export function parseContainerId(text: string, field = 'containerId'): ContainerId {
  const rule = 'must start with a letter or digit and hold only letters, digits, "_", "." and "-", at most 128'
  return match({ text, field, pattern: CONTAINER_ID, rule }) as ContainerId
}

/**
 * An interface name that the kernel accepts (dev_valid_name), ASCII only, without "%": the kernel expands `eth%d` to a
 * number, and the interface would have another name than its endpoint. @throws ERR_INVALID
 */
export function parseIfName(text: string, field = 'ifname'): IfName {
  const rule = 'must be 1 to 15 printable ASCII characters without "/", ":", "%" or white space'
  if (text === '.' || text === '..') throw invalid(field, `${rule}, got ${quote(text)}`)
  return match({ text, field, pattern: IFNAME, rule }) as IfName
}

/** A libp2p peer id; only its syntax is checked. @throws ERR_INVALID */
export function parsePeerId(text: string, field = 'peerId'): PeerId {
  return match({ text, field, pattern: PEER_ID, rule: 'must be a base58 libp2p peer id' }) as PeerId
}

const NAME_RULE = 'must be 1 to 63 lower-case letters, digits and "-", not starting or ending with "-"'

function match(p: { text: string; field: string; pattern: RegExp; rule: string }): string {
  if (typeof p.text !== 'string' || !p.pattern.test(p.text)) throw invalid(p.field, `${p.rule}, got ${quote(p.text)}`)
  return p.text
}

/** Characters that JSON does not escape and terminals interpret: DEL, C1 controls, and bidirectional marks. */
const UNPRINTABLE = /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_C}]/gu

/** A value for an error message: quoted, control characters escaped, at most 80 characters. */
export function quote(value: unknown): string {
  const text = toJson(value)?.replace(UNPRINTABLE, char => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`)
  if (text === undefined) return typeof value
  return text.length > 80 ? `${text.slice(0, 76)}..."` : text
}

/** Undefined when JSON cannot represent the value. */
function toJson(value: unknown): string | undefined {
  try {
    return JSON.stringify(value)
  } catch {
    return undefined
  }
}
