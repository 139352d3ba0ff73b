// Faults of whole hosts. As in the core's simulation, each seed enables its own random subset.

import type { ClusterId, LogIndex, Term } from '#model/ids.ts'
import { encodeFeed } from '#replication/feed/feed-message.ts'
import type { Counters } from '../counters.ts'
import type { Random } from '../random.ts'
import type { Schedule } from '../schedule.ts'
import type { HostileHost } from './hostile.ts'
import type { HostNetwork } from './host-network.ts'
import type { HostOperator } from './host-operator.ts'
import type { SimHost } from './host.ts'
import type { Oracle } from './oracle.ts'

export type HostFaultContext = {
  readonly hosts: readonly SimHost[]
  readonly random: Random
  readonly schedule: Schedule
  readonly network: HostNetwork
  readonly operator: HostOperator
  readonly oracle: Oracle
  readonly faults: Counters
  readonly hostile: HostileHost
}

/** Returns false if it found nothing to act on. */
type Action = (context: HostFaultContext) => boolean

/** Faults of single messages (host-network.ts). */
const MESSAGE_FAULTS = [
  'feed-message-lost',
  'feed-message-duplicated',
  'feed-message-late',
  'late-answer',
  'lost-answer'
] as const

const ACTIONS: Readonly<Record<string, Action>> = {
  'host-restart': context => crash(context, context.random.pick(context.hosts), 'kill'),
  'restart-of-the-leader': context => crash(context, leaderOf(context), 'kill'),
  'restart-with-an-unfinished-attach': context =>
    crash(
      context,
      context.hosts.find(({ containers }) => containers.hasUnfinished),
      'kill'
    ),
  'host-power-cut': context => crash(context, context.random.pick(context.hosts), 'power-cut'),
  'power-cut-of-all-hosts': context => {
    for (const host of context.hosts) crash(context, host, 'power-cut')
    return true
  },
  'host-stall': ({ hosts, random }) => {
    const { process } = random.pick(hosts)
    process?.life.stall(random.between(100, 4_000))
    return process !== null
  },
  'partition-of-hosts': context => {
    const { hosts, random, network } = context
    const side = new Set(hosts.filter(() => random.chance(0.5)))
    for (const a of hosts) for (const b of hosts) if (side.has(a) !== side.has(b)) network.cut(a.peerId, b.peerId)
    return healLater(context)
  },
  'partition-of-the-leading-host': context => {
    const leader = leaderOf(context)
    if (leader === undefined) return false
    isolate(context, leader)
    return healLater(context)
  },
  'removal-of-an-isolated-leader': context => {
    // It appends entries that reach no other host, and is removed meanwhile: it becomes a client with a conflicting tail.
    const leader = leaderOf(context)
    if (leader === undefined || !context.operator.remove(leader)) return false
    isolate(context, leader)
    return healLater(context)
  },
  'one-way-partition-of-a-host': context => {
    const { hosts, random, network } = context
    const host = random.pick(hosts)
    for (const other of hosts) network.cut(host.peerId, other.peerId)
    return healLater(context)
  },
  'partition-of-a-client': context => {
    const client = context.random.pick(context.hosts.filter(host => !host.isVoter))
    isolate(context, client)
    return healLater(context)
  },
  'broken-direct-stream': ({ network }) => network.breakDirectStream(),
  'full-disk': ({ hosts, random, schedule }) => {
    const { disk } = random.pick(hosts)
    disk.isFull = true
    schedule.after(random.between(50, 2_000), () => {
      disk.isFull = false
    })
    return true
  },
  'slow-host-disk': ({ hosts, random, schedule }) => {
    const { disk } = random.pick(hosts)
    disk.delayMs = random.pick([20, 200, 2_000])
    schedule.after(random.between(500, 4_000), () => {
      disk.delayMs = 0
    })
    return true
  },
  'slow-snapshots': ({ hosts, random, schedule }) => {
    // As of a large state: made, fetched and built in many slices, with everything else in between.
    const host = random.pick(hosts)
    host.sectionMs = random.pick([1, 10, 100])
    schedule.after(random.between(1_000, 6_000), () => {
      host.sectionMs = 0
    })
    return true
  },
  'end-during-a-snapshot': context => {
    const host = context.hosts.find(({ disk }) => disk.hasPartialSnapshot)
    return crash(context, host, context.random.pick(['kill', 'power-cut']))
  },
  'change-of-servers': ({ operator }) => operator.changeServers(),
  'leadership-transfer': ({ operator }) => operator.transfer(),
  'forged-feed-message': context => {
    // Gossip signs its messages, so a client can publish under its own name only.
    const { hosts, network, oracle, random } = context
    const client = random.pick(hosts.filter(({ role }) => role === 'client'))
    const { clusterId } = client
    if (client.process === null || clusterId === null) return false
    const index = (oracle.index + 1) as LogIndex
    const entry = { index, term: 1_000 as Term, kind: 'noop', data: new Uint8Array() } as const
    for (const data of encodeFeed({ clusterId, term: entry.term, commitIndex: index, entries: [entry] })) {
      network.publish(client.peerId, data)
    }
    return true
  },
  'false-feed-message-of-a-server': context => {
    // Its memory is broken: it names a term and an index that no server has.
    const { hosts, network, oracle, random } = context
    const server = random.pick(hosts.filter(host => host.isVoter || host.role === 'server'))
    const { clusterId } = server
    const term = server.replicator?.log.status().term
    if (term === undefined || clusterId === null) return false
    const far = random.pick([1, 1_000_000])
    const announced = { term: (term + 1_000) as Term, commitIndex: (oracle.index + far) as LogIndex, entries: [] }
    for (const data of encodeFeed({ clusterId, ...announced })) network.publish(server.peerId, data)
    return true
  },
  'hostile-raft': ({ hostile }) => hostile.raft(),
  'hostile-gossip': ({ hostile }) => hostile.gossip(),
  'hostile-proposal': ({ hostile }) => hostile.propose(),
  'hostile-change-of-servers': ({ hostile }) => hostile.changeServers(),
  'impossible-message-of-a-server': ({ hostile }) => hostile.breakServer(),
  'feed-message-of-another-cluster': context => {
    const { network, oracle } = context
    const leader = leaderOf(context)
    if (leader === undefined) return false
    const index = (oracle.index + 1) as LogIndex
    const entry = { index, term: 1 as Term, kind: 'noop', data: new Uint8Array() } as const
    const clusterId = '0123456789abcdef' as ClusterId
    for (const data of encodeFeed({ clusterId, term: entry.term, commitIndex: index, entries: [entry] })) {
      network.publish(leader.peerId, data)
    }
    return true
  }
}

export const HOST_FAULTS: readonly string[] = [...MESSAGE_FAULTS, ...Object.keys(ACTIONS)]

/** Draws the fault kinds and rates of this run and injects faults until a time. */
export function injectHostFaults(context: HostFaultContext, untilMs: number): void {
  const { random, network, faults, schedule } = context
  const { feed } = network
  if (random.chance(0.1)) return
  if (random.chance(0.6)) feed.loss = random.pick([0.05, 0.3, 0.9])
  if (random.chance(0.5)) feed.duplication = random.pick([0.05, 0.5])
  if (random.chance(0.5)) feed.delay = random.pick([0.05, 0.3])
  if (random.chance(0.4)) network.lateAnswers = random.pick([0.002, 0.02])
  if (random.chance(0.3)) network.lostAnswers = random.pick([0.002, 0.02])
  network.jitterMs = random.pick([1, 5, 30])
  const share = random.pick([0.25, 0.5])
  const actions = Object.entries(ACTIONS).filter(() => random.chance(share))
  if (actions.length === 0) return
  const everyMs = random.pick([300, 1_000, 2_500])
  const scheduleNext = (): void => {
    schedule.after(random.between(0, 2 * everyMs), () => {
      if (schedule.nowMs >= untilMs) return
      const [name, act] = random.pick(actions)
      if (act(context)) faults.add(name)
      scheduleNext()
    })
  }
  scheduleNext()
}

function leaderOf({ hosts }: HostFaultContext): SimHost | undefined {
  return hosts.find(host => host.isLeader)
}

function crash(context: HostFaultContext, host: SimHost | undefined, kind: 'kill' | 'power-cut'): boolean {
  if (host === undefined || host.process === null) return false
  host.crash(kind)
  host.startLater(context.random.pick([5, 300, 2_000]) * (1 + context.random.unit()))
  return true
}

function isolate({ hosts, network }: HostFaultContext, host: SimHost): void {
  for (const other of hosts) {
    if (other === host) continue
    network.cut(host.peerId, other.peerId)
    network.cut(other.peerId, host.peerId)
  }
}

function healLater({ network, schedule, random }: HostFaultContext): true {
  schedule.after(random.between(100, 8_000), () => network.heal())
  return true
}
