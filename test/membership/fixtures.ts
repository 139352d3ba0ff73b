// Serf's member records as its RPC gives them, and the tags in them.

import { parsePeerId, type ClusterId, type PeerId } from '#model/ids.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import { encodeTags, type AgentTags } from '#membership/view/tags.ts'

export function peer(n: number): PeerId {
  return parsePeerId(`12D3KooW${'x'.repeat(43)}${String.fromCharCode(65 + (n % 8))}`)
}

export function tags(n: number, more: Partial<AgentTags> = {}): AgentTags {
  return {
    role: 'server',
    peerId: peer(n),
    p2pPort: 7_947,
    vtep: parseIpv4(`192.0.2.${n}`),
    protocol: 1,
    bootstrapExpect: 3,
    clusterId: '0123456789abcdef' as ClusterId,
    ...more
  }
}

/** The record of host h<n>; `more` replaces fields of the record, `Tags` single tags. */
export function record(n: number, more: { readonly Tags?: object; readonly [field: string]: unknown } = {}): object {
  const { Tags = {}, ...fields } = more
  return {
    Name: `h${n}`,
    Addr: Uint8Array.from([192, 0, 2, n]),
    Port: 7_946,
    Status: 'alive',
    ProtocolMin: 1,
    ...fields,
    Tags: { ...encodeTags(tags(n)), ...Tags }
  }
}
