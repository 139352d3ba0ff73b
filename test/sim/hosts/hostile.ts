// A hostile member: Serf lists it as a server, the cluster does not. It forges messages of Raft, gossip, and requests; what
// it requests for itself must work, and nothing else may. Its requests are recognised by their sequence numbers.

import { encodeConfiguration } from '#raft/configuration.ts'
import { FIRST_RULES, RULES, type Command, type Outcome, type Request } from '#model/command.ts'
import type { Host } from '#model/host.ts'
import type { ClusterId, HostName, LogIndex, PeerId, Term } from '#model/ids.ts'
import { parseContainerId, parseIfName, parseNetworkName } from '#model/ids.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import type { Member } from '#model/member.ts'
import { encodeMsgpack } from '#platform/msgpack.ts'
import type { Change, Entry } from '#raft/types.ts'
import { encodeRaftMessage } from '#replication/codec/raft-codec.ts'
import { encodeFrame } from '#replication/transport/frame.ts'
import { RAFT_PROTOCOL } from '#replication/transport/mesh-port.ts'
import { HostilePeer } from '#test/replication/hostile-peer.ts'
import type { Random } from '../random.ts'
import type { Schedule } from '../schedule.ts'
import type { HostNetwork } from './host-network.ts'
import type { SimHost } from './host.ts'
import { ANCHOR } from './lanes.ts'
import { Life } from './life.ts'
import type { Oracle } from './oracle.ts'

export const EVIL_PEER = `12D3KooW${'h'.repeat(40)}99` as PeerId
const EVIL_NAME = 'evil' as HostName
const EVIL_ADDRESS = 0x0a0000f0 as Ipv4
/** No honest request has so high a number. */
const FIRST_SEQ = 1_000_000
/** No honest election reaches it. */
export const FALSE_TERM = 1_000_000 as Term
const NETWORK = parseNetworkName('net')

/** Did a forged request change what is not the hostile host's own? */
export function didHarm({ session, seq, command }: Request, outcome: Outcome): boolean {
  if (seq < FIRST_SEQ || !outcome.ok || command.kind === 'session-open') return false
  // In the session of another host.
  if (session !== 'evil' && !session.startsWith(`${EVIL_PEER}/`)) return true
  switch (command.kind) {
    case 'host-register':
      return command.host.peerId !== EVIL_PEER || command.host.vtep !== EVIL_ADDRESS
    case 'endpoint-attach':
      return command.host !== EVIL_PEER
    case 'endpoint-detach':
      return !command.containerId.startsWith('evil')
    default:
      return true
  }
}

export class HostileHost {
  readonly #hosts: readonly SimHost[]
  readonly #random: Random
  readonly #network: HostNetwork
  readonly #oracle: Oracle
  readonly #life: Life
  #peer: HostilePeer | null = null
  #seq = FIRST_SEQ

  constructor(p: {
    readonly hosts: readonly SimHost[]
    readonly random: Random
    readonly network: HostNetwork
    readonly oracle: Oracle
    readonly schedule: Schedule
  }) {
    this.#hosts = p.hosts
    this.#random = p.random
    this.#network = p.network
    this.#oracle = p.oracle
    this.#life = new Life(p.schedule)
  }

  /** As it tells everybody over Serf. */
  get member(): Member | null {
    const clusterId = this.#clusterId
    if (this.#peer === null || clusterId === null) return null
    return {
      name: EVIL_NAME,
      address: EVIL_ADDRESS,
      port: 7946,
      status: 'alive',
      role: 'server',
      peerId: EVIL_PEER,
      vtep: EVIL_ADDRESS,
      p2pPort: 7947,
      protocol: 1,
      bootstrapExpect: 0,
      clusterId
    }
  }

  /** Claims to lead a later term, or votes, or hands over. */
  raft(): boolean {
    const term = this.#random.pick([FALSE_TERM, this.#term(), this.#term() + 1]) as Term
    const [lastIndex, lastTerm] = [FALSE_TERM as number as LogIndex, term]
    const prev = this.#last()
    const entries = [this.#command(prev.index + 1, term, this.#harm())]
    const append = { prevIndex: prev.index, prevTerm: prev.term, entries, leaderCommit: (prev.index + 1) as LogIndex }
    const forged = this.#random.pick([
      { kind: 'append-request' as const, term, ...append, round: 1 },
      { kind: 'vote-request' as const, term, lastIndex, lastTerm, transfer: true },
      { kind: 'vote-reply' as const, term, granted: true },
      { kind: 'timeout-now' as const, term }
    ])
    return this.#act(async peer => {
      for (const { peerId } of this.#running()) await peer.raft(peerId, forged)
    })
  }

  gossip(): boolean {
    const term = this.#random.pick([FALSE_TERM, this.#term()]) as Term
    const index = this.#last().index + 1
    const commitIndex = this.#random.pick([index, 2 ** 40])
    return this.#act(peer => peer.gossip({ term, commitIndex, entries: [this.#command(index, term, this.#harm())] }))
  }

  /** As it would register with this version. */
  row(version: string): Host {
    return { name: EVIL_NAME, peerId: EVIL_PEER, role: 'server', vtep: EVIL_ADDRESS, bootId: 'b', version }
  }

  /**
   * Requests a change of its own, or one that harms others, in a session of its own or of another host.
   * @param given the change; a random one by default
   */
  propose(given?: Command): boolean {
    const command = given ?? (this.#random.chance(0.3) ? this.#own() : this.#harm())
    const others = [...this.#oracle.state.sessions.entries()].map(([id]) => id)
    const other = others.length > 0 && this.#random.chance(0.3) ? this.#random.pick(others) : null
    const session = other === null ? 'evil' : this.#random.pick([other, other.slice(other.indexOf('/') + 1)])
    return this.#act(async peer => {
      for (const { peerId } of this.#running()) {
        const open = { session: 'evil', seq: 0, settledBelow: 0, command: { kind: 'session-open' } }
        await peer.propose(peerId, open)
        this.#seq += 1
        // It claims that it is somebody else, and that earlier rules apply.
        const claims = { by: this.#random.pick(this.#hosts).peerId, rules: this.#random.pick([FIRST_RULES, RULES]) }
        await peer.propose(peerId, { session, seq: this.#seq, settledBelow: 0, ...claims, command })
      }
    })
  }

  /** Adds itself as a server, or removes others. */
  changeServers(): boolean {
    const victim = this.#random.pick(this.#hosts).peerId
    const change = this.#random.pick<Change>([
      { kind: 'add-learner', peer: EVIL_PEER, incarnation: 0 },
      { kind: 'promote', peer: EVIL_PEER },
      { kind: 'remove', peer: victim }
    ])
    return this.#act(async peer => {
      for (const { peerId } of this.#running()) await peer.request(peerId, 'raft-change', change)
    })
  }

  /** A server sends what no correct server sends: its memory, or its agent, is broken. */
  breakServer(): boolean {
    const running = this.#running()
    if (running.length === 0) return false
    const [from, to] = [this.#random.pick(running), this.#random.pick(running)]
    const clusterId = this.#clusterId
    const status = to.replicator?.log.status()
    if (from === to || clusterId === null || status === undefined) return false
    const { index, term } = this.#last()
    const entries = this.#random.pick<readonly Entry[]>([
      [this.#noop(index + 2, term), this.#noop(index + 1, term)],
      [this.#noop(index + 7, term)],
      [{ ...this.#noop(index + 1, status.term), kind: 'command', data: Buffer.from('garbage') }]
    ])
    const append = { prevIndex: index, prevTerm: term, entries, leaderCommit: (index + 9) as LogIndex, round: 1 }
    const header = { clusterId, from: from.peerId, to: to.peerId, term: status.term, incarnation: 0 }
    const frame = encodeFrame(encodeRaftMessage({ ...header, kind: 'append-request', ...append }))
    this.#network.forge(from.peerId, to.peerId, RAFT_PROTOCOL, frame)
    return true
  }

  get #clusterId(): ClusterId | null {
    return this.#hosts.find(({ clusterId }) => clusterId !== null)?.clusterId ?? null
  }

  #running(): readonly SimHost[] {
    return this.#hosts.filter(({ replicator }) => replicator !== null)
  }

  #term(): number {
    return Math.max(1, ...this.#running().map(({ replicator }) => replicator?.log.status().term ?? 0))
  }

  #last(): { readonly index: LogIndex; readonly term: Term } {
    return { index: this.#oracle.index as LogIndex, term: this.#term() as Term }
  }

  #noop(index: number, term: number): Entry {
    return { index: index as LogIndex, term: term as Term, kind: 'noop', data: new Uint8Array() }
  }

  #command(index: number, term: number, command: Command): Entry {
    if (this.#random.chance(0.2)) {
      const configuration = { voters: [EVIL_PEER], learners: [] }
      return { ...this.#noop(index, term), kind: 'config', data: encodeConfiguration(configuration) }
    }
    this.#seq += 1
    const data = encodeMsgpack({ session: 'evil', seq: this.#seq, settledBelow: 0, command })
    return { ...this.#noop(index, term), kind: 'command', data }
  }

  #own(): Command {
    const container = parseContainerId(`evil${this.#random.between(1, 3).toFixed(0)}`)
    const ifname = parseIfName('eth0')
    const facts = { ifname, name: '', ingressRate: 0, egressRate: 0, delayUs: 0 }
    return this.#random.pick<Command>([
      this.#register(EVIL_PEER, EVIL_ADDRESS),
      { kind: 'endpoint-attach', network: NETWORK, containerId: container, host: EVIL_PEER, ...facts },
      { kind: 'endpoint-detach', containerId: container, ifname }
    ])
  }

  #harm(): Command {
    const victim = this.#random.pick(this.#hosts)
    const ifname = parseIfName('eth0')
    const held = [...this.#oracle.state.endpoints()].filter(({ host }) => host !== EVIL_PEER)
    const facts = { ifname, name: '', ingressRate: 0, egressRate: 0, delayUs: 0 }
    const containerId = held.length === 0 ? parseContainerId('c1') : this.#random.pick(held).containerId
    const networks: readonly Command[] = [{ kind: 'network-delete', name: NETWORK, force: true }]
    return this.#random.pick<Command>([
      ...(held.some(each => each.containerId === ANCHOR) ? networks : []),
      this.#register(victim.peerId, this.#random.pick([EVIL_ADDRESS, (EVIL_ADDRESS + 1) as Ipv4])),
      this.#register(EVIL_PEER, 0x08080808 as Ipv4),
      { kind: 'endpoint-attach', network: NETWORK, containerId: parseContainerId('x1'), host: victim.peerId, ...facts },
      { kind: 'endpoint-detach', containerId, ifname },
      { kind: 'endpoint-update', containerId, ifname, ingressRate: 1 }
    ])
  }

  #register(peerId: PeerId, vtep: Ipv4): Command {
    const name = this.#hosts.find(host => host.peerId === peerId)?.name ?? EVIL_NAME
    return { kind: 'host-register', host: { name, peerId, role: 'server', vtep, bootId: 'b', version: '1' } }
  }

  #act(attack: (peer: HostilePeer) => Promise<void>): boolean {
    const clusterId = this.#clusterId
    if (clusterId === null) return false
    if (this.#peer === null) {
      const mesh = this.#network.attach({ peerId: EVIL_PEER, address: EVIL_ADDRESS }, this.#life)
      this.#peer = new HostilePeer({ mesh, clock: this.#life.clock(), clusterId })
    }
    // Most attacks are refused, and hosts are down.
    attack(this.#peer).catch(() => undefined)
    return true
  }
}
