// Random forged messages of a member: of Raft, of the feed, and requests. Each is well-formed enough to reach the check that
// must refuse it, except for those that are garbage on purpose.

import type { ClusterState } from '#allocator/state-machine.ts'
import { FIRST_RULES, RULES, type Command, type Request } from '#model/command.ts'
import { parseContainerId, parseIfName, parseNetworkName } from '#model/ids.ts'
import type { LogIndex, PeerId, Term } from '#model/ids.ts'
import { parseIp } from '#model/ip.ts'
import { encodeMsgpack } from '#platform/msgpack.ts'
import { encodeConfiguration } from '#raft/configuration.ts'
import type { Change, Entry, Message } from '#raft/types.ts'
import type { Random } from '../../sim/random.ts'

type Body<M> = M extends Message ? Omit<M, 'clusterId' | 'from' | 'to' | 'incarnation'> : never

/** Every request that agents serve; `propose` is one proposal in a frame. */
const METHODS = [
  'propose',
  'propose-many',
  'fetch',
  'fetch-snapshot',
  'fetch-image',
  'read-index',
  'raft-change',
  'raft-peers',
  'participation',
  'incarnation',
  'origin',
  'seed',
  'bootstrap',
  'no-such-request'
] as const
/** No honest proposal has so high a number. */
const FIRST_SEQ = 1_000_000

/** What the forger knows of the cluster, as a client host does. */
export type Knowledge = {
  readonly self: PeerId
  readonly state: ClusterState
  readonly term: () => number
  readonly index: () => number
}

export class Forgery {
  readonly #known: Knowledge
  readonly #random: Random
  #seq = FIRST_SEQ

  constructor(known: Knowledge, random: Random) {
    this.#known = known
    this.#random = random
  }

  raft(): Body<Message> {
    const random = this.#random
    const [index, term] = [this.#index(), this.#term()]
    const last = { lastIndex: index, lastTerm: term }
    const prev = { prevIndex: this.#known.index() as LogIndex, prevTerm: this.#known.term() as Term }
    const entries = [this.#entry(prev.prevIndex + random.below(3), term)]
    const meta = { ...last, configuration: { voters: [this.#known.self], learners: [] } }
    const data = random.chance(0.5) ? new Uint8Array() : this.garbage()
    return random.pick<Body<Message>>([
      { kind: 'pre-vote-request', term, ...last },
      { kind: 'pre-vote-reply', term, granted: true, requestTerm: term },
      { kind: 'vote-request', term, ...last, transfer: random.chance(0.5) },
      { kind: 'vote-reply', term, granted: true },
      { kind: 'append-request', term, ...prev, entries, leaderCommit: index, round: 1 },
      { kind: 'append-reply', term, success: true, matchIndex: index, conflictTerm: term, round: 1 },
      { kind: 'install-request', term, meta: meta, size: data.byteLength, offset: 0, data, round: 1 },
      { kind: 'install-reply', term, lastIndex: index, offset: 1, done: true, round: 1 },
      { kind: 'timeout-now', term }
    ])
  }

  feed(): { readonly term: number; readonly commitIndex: number; readonly entries: readonly Entry[] } {
    const term = this.#term()
    const index = this.#known.index() + 1
    return { term, commitIndex: this.#random.pick([index, 2 ** 40]), entries: [this.#entry(index, term)] }
  }

  garbage(): Uint8Array {
    return Uint8Array.from({ length: this.#random.below(2_000) }, () => this.#random.below(256))
  }

  /** A request that nobody may make, or one that makes no sense. */
  request(): { readonly method: string; readonly body: unknown } {
    const method = this.#random.pick(METHODS)
    if (method === 'propose' && this.#random.chance(0.9)) return { method, body: this.proposal(this.#harm()) }
    if (method === 'raft-change' && this.#random.chance(0.8)) return { method, body: this.#change() }
    const bodies = [null, {}, [], 'x', -1, 2 ** 53, this.garbage(), [{}, 0, 0], { command: { kind: 'host-remove' } }]
    return { method, body: this.#random.pick<unknown>(bodies) }
  }

  /** A proposal in the forger's own session; it claims to be of a server, and by earlier rules. */
  proposal(command: Command): Request {
    this.#seq += 1
    const { self, state } = this.#known
    const claims = { by: this.#random.pick([...state.hosts()]).peerId, rules: this.#random.pick([FIRST_RULES, RULES]) }
    const others = [...state.sessions.entries()]
      .map(([id]) => id.slice(id.indexOf('/') + 1))
      .filter(id => id !== 'evil')
    const isOwn = command.kind === 'session-open' || others.length === 0 || this.#random.chance(0.8)
    const session = isOwn || isOf(command, self) ? 'evil' : this.#random.pick(others)
    const seq = command.kind === 'session-open' ? 0 : this.#seq
    return { session, seq, settledBelow: session === 'evil' ? seq : 0, ...claims, command }
  }

  /** A change that concerns another host, or an address that is not its own. */
  #harm(): Command {
    const { self, state } = this.#known
    const random = this.#random
    const victim = random.pick([...state.hosts()].filter(({ peerId }) => peerId !== self))
    const own = state.host(self) ?? victim
    const held = random.pick([...state.endpoints()].filter(({ host }) => host !== self))
    const { containerId, ifname, network } = held
    const facts = { ifname: parseIfName('eth0'), name: '', ingressRate: 0, egressRate: 0, delayUs: 0 }
    return random.pick<Command>([
      { kind: 'host-register', host: { ...victim, vtep: random.pick([own.vtep, parseIp('8.8.8.8')]) } },
      { kind: 'host-register', host: { ...victim, peerId: self } },
      { kind: 'host-register', host: { ...own, vtep: random.pick([victim.vtep, parseIp('8.8.8.8')]) } },
      { kind: 'host-remove', name: victim.name },
      { kind: 'endpoint-attach', network, containerId: parseContainerId('x1'), host: victim.peerId, ...facts },
      { kind: 'endpoint-detach', containerId, ifname },
      { kind: 'endpoint-update', containerId, ifname, ingressRate: 1 },
      { kind: 'network-delete', name: parseNetworkName(network), force: true }
    ])
  }

  #change(): Change {
    const { self, state } = this.#known
    const peer = this.#random.pick([...state.hosts()]).peerId
    return this.#random.pick<Change>([
      { kind: 'add-learner', peer: self, incarnation: 0 },
      { kind: 'promote', peer: self },
      { kind: 'remove', peer }
    ])
  }

  #entry(index: number, term: Term): Entry {
    const at = { index: index as LogIndex, term }
    const configuration = { voters: [this.#known.self], learners: [] }
    return this.#random.pick<Entry>([
      { ...at, kind: 'command', data: encodeMsgpack(this.proposal(this.#harm())) },
      { ...at, kind: 'command', data: this.garbage() },
      { ...at, kind: 'config', data: encodeConfiguration(configuration) },
      { ...at, kind: 'noop', data: new Uint8Array() }
    ])
  }

  #term(): Term {
    const now = this.#known.term()
    return this.#random.pick([now, now + 1, 1_000_000, 2 ** 40, 2 ** 50]) as Term
  }

  #index(): LogIndex {
    const now = this.#known.index()
    return this.#random.pick([0, now, now + 1, 2 ** 40]) as LogIndex
  }
}

function isOf(command: Command, self: PeerId): boolean {
  return command.kind === 'endpoint-attach' && command.host === self
}
