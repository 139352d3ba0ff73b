// A stolen host: speaks with that host's identity and key while its agent is down. Reads what to do as lines of JSON.
//   hostile.ts DATA-DIR KEY-FILE ADDRESS CLUSTER-ID PEERS     PEERS: JSON object, address by peer id

import { pino } from 'pino'
import { readClusterKeys } from '#config/cluster-key.ts'
import { asVxmeshError } from '#model/errors.ts'
import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import { parseIp } from '#model/ip.ts'
import { systemClock } from '#platform/clock.ts'
import { encodeMsgpack } from '#platform/msgpack.ts'
import type { Entry } from '#raft/types.ts'
import { loadIdentity } from '#replication/transport/identity.ts'
import { Mesh } from '#replication/transport/mesh.ts'
import { answerLines } from '../lab/json-process.ts'
import { HostilePeer } from '../replication/hostile-peer.ts'

const P2P = 7_947
/** Ahead of every real term and index, and no number that a server refuses as such. */
const AHEAD = 1_000

export type Question =
  /** Connects to peers; resolves once it is. */
  | { readonly kind: 'connect'; readonly peers: readonly string[] }
  /** Claims to lead and to have been elected. */
  | { readonly kind: 'unseat'; readonly peers: readonly string[]; readonly term: number }
  /** As leader of a term: entries that are not in order, and one that is no request. */
  | { readonly kind: 'disorder'; readonly peers: readonly string[]; readonly term: number; readonly index: number }
  | { readonly kind: 'gossip'; readonly term: number; readonly commitIndex: number; readonly entry?: EntryText }
  | { readonly kind: 'propose'; readonly peer: string; readonly request: unknown }
  | { readonly kind: 'request'; readonly peer: string; readonly method: string; readonly body: unknown }

/** A committed entry that nobody committed; `request` as the log holds it. */
type EntryText = { readonly index: number; readonly term: number; readonly request: unknown }

const [dataDir = '', keyFile = '', address = '', clusterId = '', peers = '{}'] = process.argv.slice(2)
const known = JSON.parse(peers) as Readonly<Record<string, string>>
const clock = systemClock
const mesh = await Mesh.start({
  privateKey: (await loadIdentity(dataDir)).privateKey,
  bind: parseIp(address),
  port: P2P,
  preSharedKey: (await readClusterKeys(keyFile)).p2p,
  topic: 'vxmesh-feed-1',
  isKnown: peer => peer in known,
  clock,
  logger: pino({ level: 'silent' })
})
for (const [peer, at] of Object.entries(known)) mesh.setAddress(peer as PeerId, { address: parseIp(at), port: P2P })
mesh.subscribe(() => 'ignore')
const hostile = new HostilePeer({ mesh, clock, clusterId: clusterId as ClusterId })

await answerLines(async question => {
  try {
    return await act(question as Question)
  } catch (err) {
    return { error: asVxmeshError(err).code, message: asVxmeshError(err).message }
  }
})
await mesh.stop()
process.exit(0)

async function act(question: Question): Promise<unknown> {
  switch (question.kind) {
    case 'connect':
      for (const peer of question.peers) await mesh.connect(peer as PeerId)
      return { connected: question.peers.length }
    case 'unseat':
      for (const peer of question.peers) await unseat(peer as PeerId, question.term)
      return { sent: question.peers.length }
    case 'disorder':
      for (const peer of question.peers) await disorder(peer as PeerId, question)
      return { sent: question.peers.length }
    case 'gossip':
      await hostile.gossip({ ...question, entries: question.entry === undefined ? [] : [forgedEntry(question.entry)] })
      return { sent: 1 }
    case 'propose':
      return hostile.propose(question.peer as PeerId, question.request)
    case 'request':
      if (question.method === 'propose') return hostile.propose(question.peer as PeerId, question.body)
      return hostile.request(question.peer as PeerId, question.method, question.body)
  }
}

async function unseat(to: PeerId, current: number): Promise<void> {
  const term = (current + AHEAD) as Term
  const entry = { prevIndex: 0 as LogIndex, prevTerm: 0 as Term, entries: [], leaderCommit: 0 as LogIndex, round: 1 }
  const last = { lastIndex: (current + AHEAD * AHEAD) as LogIndex, lastTerm: term }
  await quietly(hostile.raft(to, { kind: 'vote-request', term, ...last, transfer: true }))
  await quietly(hostile.raft(to, { kind: 'vote-reply', term, granted: true }))
  await quietly(hostile.raft(to, { kind: 'timeout-now', term: current as Term }))
  await quietly(hostile.raft(to, { kind: 'append-request', term, ...entry }))
}

async function disorder(to: PeerId, p: { readonly term: number; readonly index: number }): Promise<void> {
  const [term, prevIndex] = [p.term as Term, p.index as LogIndex]
  // The last entry is of the term before: the message fits, but for its entries.
  const base = { term, prevIndex, prevTerm: (p.term - 1) as Term, leaderCommit: prevIndex, round: 1 }
  const entry = (index: number): Entry => forgedEntry({ index, term: p.term, request: {} })
  for (const entries of [[entry(p.index + 7)], [entry(p.index + 2), entry(p.index + 1)], [entry(p.index + 1)]]) {
    await quietly(hostile.raft(to, { kind: 'append-request', ...base, entries }))
  }
  await quietly(hostile.raftFrame(to, Buffer.from('93a3666f6fc0c0', 'hex')))
}

function forgedEntry({ index, term, request }: EntryText): Entry {
  return { index: index as LogIndex, term: term as Term, kind: 'command', data: encodeMsgpack(request) }
}

/** A peer that closes the channel has answered, too. */
async function quietly(sent: Promise<void>): Promise<void> {
  await sent.catch(() => undefined)
}
