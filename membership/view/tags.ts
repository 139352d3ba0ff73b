// The Serf tags of an agent. Keys are short, because Serf limits all tags together to 512 bytes.

import { invalid } from '#model/errors.ts'
import { parsePeerId, type ClusterId, type PeerId } from '#model/ids.ts'
import { formatIp, isTunnelAddress, parseIp, type Ip } from '#model/ip.ts'
import type { Role } from '#model/host.ts'

export type AgentTags = {
  readonly role: Role
  readonly peerId: PeerId
  /** TCP port of libp2p. */
  readonly p2pPort: number
  readonly vtep: Ip
  readonly protocol: number
  readonly bootstrapExpect: number
  /** As in Member. */
  readonly seed?: string
  readonly clusterId?: ClusterId
}

/** Serf's tags of an agent, about 150 bytes. */
export function encodeTags(tags: AgentTags): Record<string, string> {
  return {
    role: tags.role,
    peer: tags.peerId,
    p2p: `${tags.p2pPort}`,
    vtep: formatIp(tags.vtep),
    vx: `${tags.protocol}`,
    expect: `${tags.bootstrapExpect}`,
    ...(tags.seed === undefined ? {} : { seed: tags.seed }),
    ...(tags.clusterId === undefined ? {} : { cluster: tags.clusterId })
  }
}

/** @throws ERR_INVALID naming the tag: any holder of the gossip key can set arbitrary tags */
export function decodeTags(tags: Readonly<Record<string, unknown>>): AgentTags {
  const role = text(tags, 'role')
  if (role !== 'server' && role !== 'client') throw invalid('role', 'is neither server nor client')
  const { cluster, seed } = tags
  return {
    role,
    peerId: parsePeerId(text(tags, 'peer'), 'peer'),
    p2pPort: whole(tags, 'p2p', [1, 65_535]),
    vtep: vtep(text(tags, 'vtep')),
    protocol: whole(tags, 'vx', [0, 1_000]),
    bootstrapExpect: whole(tags, 'expect', [0, 100]),
    ...(seed === undefined ? {} : { seed: hex('seed', seed) }),
    ...(cluster === undefined ? {} : { clusterId: hex('cluster', cluster) as ClusterId })
  }
}

function hex(key: 'cluster' | 'seed', value: unknown): string {
  if (typeof value !== 'string' || !/^[0-9a-f]{16}$/.test(value)) throw invalid(key, `is not a ${key} id`)
  return value
}

function vtep(value: string): Ip {
  const address = parseIp(value, 'vtep')
  if (!isTunnelAddress(address)) throw invalid('vtep', 'is not a unicast address')
  return address
}

function text(tags: Readonly<Record<string, unknown>>, key: string): string {
  const value = tags[key]
  if (typeof value !== 'string') throw invalid(key, 'is missing')
  return value
}

function whole(
  tags: Readonly<Record<string, unknown>>,
  key: string,
  [min, max]: readonly [min: number, max: number]
): number {
  const value = text(tags, key)
  const number = /^[0-9]{1,5}$/.test(value) ? Number(value) : NaN
  if (!(number >= min && number <= max)) throw invalid(key, `is not a number from ${min} to ${max}`)
  return number
}
