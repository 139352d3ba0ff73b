// A request as an entry's data: a msgpack array, in which nothing is named and nothing stands twice. A third of the bytes of
// the same request as a map, which entries of earlier releases hold, and decoded in a third of the time.
//   [form, rules or null, by a client host, session's owner or null, session, seq, settledBelow, kind, ...fields]
// Kinds are 0: the command follows as a map; 1: an attach; 2: a detach. An attach's host is null where it owns the session.

import type { CommandOf, Request } from '#model/command.ts'
import { decodeMsgpack, encodeMsgpack } from '#platform/msgpack.ts'

const FORM = 1
const ANY = 0
const ATTACH = 1
const DETACH = 2

export function encodeRequest(request: Request): Uint8Array {
  const { rules, session, seq, settledBelow, by, command } = request
  const end = session.indexOf('/')
  const owner = end === -1 ? null : session.slice(0, end)
  // The leader will bind it.
  if (by !== undefined && by !== owner) return encodeMsgpack(request)
  const head = [FORM, rules ?? null, by !== undefined, owner, session.slice(end + 1), seq, settledBelow]
  const fields =
    command.kind === 'endpoint-attach'
      ? attachFields(command, owner)
      : command.kind === 'endpoint-detach'
        ? [DETACH, command.containerId, command.ifname]
        : null
  return encodeMsgpack([...head, ...(fields ?? [ANY, command])])
}

/** Of either form; not checked yet. @throws ERR_PEER when the bytes are no value */
export function decodeRequest(data: Uint8Array): unknown {
  const value = decodeMsgpack(data)
  if (!Array.isArray(value) || value[0] !== FORM) return value
  const [, rules, byClient, owner, id, seq, settledBelow, kind, ...fields] = value as unknown[]
  const session = owner === null ? id : typeof owner === 'string' && typeof id === 'string' ? `${owner}/${id}` : null
  const command = kind === ATTACH ? attachOf(fields, owner) : kind === DETACH ? detachOf(fields) : fields[0]
  return {
    ...(rules === null ? {} : { rules }),
    session,
    seq,
    settledBelow,
    command,
    ...(byClient === true ? { by: owner ?? '' } : {})
  }
}

/** Null when the command has a field that is not named here. */
function attachFields(command: CommandOf<'endpoint-attach'>, owner: string | null): unknown[] | null {
  const { kind: _, network, containerId, ifname, name, host, ingressRate, egressRate, delayUs, ...optional } = command
  const { address, mac, requestId, labels, ...unknown } = optional
  for (const key in unknown) if (Object.hasOwn(unknown, key)) return null
  const fields = [ATTACH, network, containerId, ifname, name, host === owner ? null : host]
  const settings = [ingressRate, egressRate, delayUs]
  const isPlain = address === undefined && mac === undefined && requestId === undefined && labels === undefined
  const rare = isPlain ? [] : [address ?? null, mac ?? null, requestId ?? null]
  return [...fields, ...settings, ...rare, ...(labels === undefined ? [] : [labels])]
}

function attachOf(fields: readonly unknown[], owner: unknown): unknown {
  const [network, containerId, ifname, name, host, ingressRate, egressRate, delayUs] = fields
  const [address = null, mac = null, requestId = null, labels = null] = fields.slice(8)
  return {
    kind: 'endpoint-attach',
    network,
    containerId,
    ifname,
    name,
    host: host ?? owner,
    ingressRate,
    egressRate,
    delayUs,
    ...(address === null ? {} : { address }),
    ...(mac === null ? {} : { mac }),
    ...(requestId === null ? {} : { requestId }),
    ...(labels === null ? {} : { labels })
  }
}

function detachOf([containerId, ifname]: readonly unknown[]): unknown {
  return { kind: 'endpoint-detach', containerId, ifname }
}
