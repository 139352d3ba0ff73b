// Fault injection. Each seed enables its own random subset of the fault kinds, so that rare combinations get whole runs
// (swarm testing, Groce et al., ISSTA '12).

import type { PeerId } from '#model/ids.ts'
import type { Message } from '#raft/types.ts'
import type { StaleReplies } from './stale-replies.ts'
import type { LeaderChurn } from './leader-churn.ts'
import type { Invariants } from './invariants.ts'
import type { Network } from './network.ts'
import type { Operator } from './operator.ts'
import type { Random } from './random.ts'
import type { Schedule } from './schedule.ts'
import type { Server } from './server.ts'
import type { Counters } from './counters.ts'
import type { PeerLostHints } from './peer-lost-hints.ts'

export type FaultContext = {
  readonly servers: readonly Server[]
  readonly random: Random
  readonly schedule: Schedule
  readonly network: Network
  readonly hints: PeerLostHints
  readonly faults: Counters
  readonly probes: Counters
  readonly leaderChurn: LeaderChurn
  readonly operator: Operator
  readonly staleReplies: StaleReplies
  readonly invariants: Invariants
  /** A random message that was sent before; null if there is none. */
  readonly replay: () => Message | null
  readonly deliver: (message: Message) => void
}

/** Returns false if it found nothing to act on. */
type FaultAction = (context: FaultContext) => boolean | void

/** Faults of single messages (network.ts). */
const MESSAGE_FAULTS = ['loss', 'duplication', 'delay', 'reorder'] as const

/** Faults of peer-lost hints (peer-lost-hints.ts). */
const HINT_FAULTS = ['peer-lost-hint-late', 'peer-lost-hint-repeated'] as const

const ACTIONS: Readonly<Record<string, FaultAction>> = {
  'partition-symmetric': context => {
    const { servers, random, network } = context
    const side = new Set(servers.filter(() => random.chance(0.5)))
    for (const a of servers) for (const b of servers) if (side.has(a) !== side.has(b)) network.cut(a.id, b.id)
    healLater(context)
  },
  'partition-of-the-leader': context => {
    const leader = leaderOf(context)
    if (leader !== undefined) isolate(context, leader)
    healLater(context)
  },
  'partition-one-way-out': context => {
    const { servers, random, network } = context
    const victim = random.pick(servers)
    for (const other of servers) network.cut(victim.id, other.id)
    healLater(context)
  },
  'partition-one-way-in': context => {
    const { servers, random, network } = context
    const victim = random.pick(servers)
    for (const other of servers) network.cut(other.id, victim.id)
    healLater(context)
  },
  'partition-partial': context => {
    // Two servers that cannot reach each other, while the others reach both.
    const { servers, random, network } = context
    const [a, b] = [random.pick(servers), random.pick(servers)]
    network.cut(a.id, b.id)
    network.cut(b.id, a.id)
    healLater(context)
  },
  'partial-mesh': context => {
    const { servers, random, network } = context
    for (const a of servers) {
      for (const b of servers) {
        if (a.number >= b.number || random.chance(0.5)) continue
        network.cut(a.id, b.id)
        network.cut(b.id, a.id)
      }
    }
    healLater(context)
  },
  'slow-network': ({ network, random, schedule }) => {
    // Slower than an election: votes and replies arrive after their term has ended.
    network.slow(random.pick([400, 1_500]), schedule.nowMs + random.between(1_000, 8_000))
  },
  'link-flapping': context => {
    const { servers, random, network, schedule } = context
    const [a, b] = [random.pick(servers), random.pick(servers)]
    for (let n = 0; n < 10; n++) {
      schedule.after(n * 200, () => {
        network.cut(a.id, b.id)
      })
      schedule.after(n * 200 + 100, () => {
        network.heal()
      })
    }
  },
  heal: ({ network }) => {
    network.heal()
  },
  'kill-one': context => {
    kill(context, context.random.pick(context.servers), false)
  },
  'kill-the-leader': context => {
    const leader = leaderOf(context)
    if (leader !== undefined) kill(context, leader, false)
  },
  'kill-a-majority': context => {
    const { servers, random } = context
    const victims = [...servers].sort(() => random.unit() - 0.5).slice(0, Math.floor(servers.length / 2) + 1)
    for (const victim of victims) kill(context, victim, false)
  },
  'power-cut-of-all': context => {
    for (const server of context.servers) kill(context, server, true)
  },
  'torn-write': context => {
    kill(context, context.random.pick(context.servers), true)
  },
  'crash-loop': context => {
    const { servers, random, schedule } = context
    const victim = random.pick(servers)
    for (let n = 0; n < 5; n++) {
      schedule.after(n * 400, () => {
        if (victim.life !== null) victim.crash(random.chance(0.5))
      })
      schedule.after(n * 400 + random.between(1, 300), () => {
        if (victim.life === null) victim.start()
      })
    }
  },
  'event-loop-stall': ({ servers, random }) => {
    random.pick(servers).stall(random.between(100, 5_000))
  },
  'stall-of-the-leader': ({ servers, random }) => {
    servers.find(server => server.isLeader)?.stall(random.between(500, 3_000))
  },
  'slow-disk': context => {
    slowDisk(context, context.random.between(10, 200))
  },
  'hung-disk': context => {
    slowDisk(context, context.random.between(2_000, 10_000))
  },
  'disk-full': context => {
    fillDisks(context, [context.random.pick(context.servers)])
  },
  'disk-full-on-all': context => {
    fillDisks(context, context.servers)
  },
  'sync-error': ({ servers, random }) => {
    random.pick(servers).failSync = true
  },
  'wiped-disk': context => {
    const victim = expendable(context)
    if (victim === null) return false
    victim.crash(false)
    victim.wipe()
    restart(context, victim)
    return true
  },
  'bit-flip': context => {
    const victim = expendable(context)
    if (victim === null) return false
    victim.crash(false)
    victim.disk.damaged = true
    restart(context, victim)
    return true
  },
  'add-a-server': ({ servers, operator, random }) => {
    operator.desiredVoters.add(random.pick(servers).id)
  },
  'remove-a-server': context => {
    removeServer(context, context.random.pick(context.servers))
  },
  'remove-the-leader': context => {
    removeServer(context, leaderOf(context))
  },
  'swap-a-server': context => {
    context.operator.desiredVoters.add(context.random.pick(context.servers).id)
    removeServer(context, context.random.pick(context.servers))
  },
  'invalid-change': ({ servers, random }) => {
    const peer = random.pick(servers)
    const incarnation = peer.disk.incarnation
    const change = random.chance(0.5)
      ? ({ kind: 'promote', peer: peer.id } as const)
      : ({ kind: 'add-learner', peer: peer.id, incarnation } as const)
    random.pick(servers).handle({ kind: 'change', id: 0, change })
  },
  'clock-drift': ({ servers, random }) => {
    random.pick(servers).setClockRate(random.pick([0.5, 0.7, 1.4, 2]))
  },
  'clock-jump': ({ servers, random }) => {
    random.pick(servers).jumpClock(random.between(100, 10_000))
  },
  'message-replay': ({ replay, deliver, random }) => {
    for (let n = random.below(20); n >= 0; n--) {
      const message = replay()
      if (message !== null) deliver(message)
    }
  },
  'foreign-cluster-message': ({ replay, deliver }) => {
    const message = replay()
    if (message !== null) {
      deliver({
        ...message,
        clusterId: 'another' as Message['clusterId'],
        term: (message.term + 100) as Message['term']
      })
    }
  },
  'leader-churn': ({ leaderChurn, random }) => {
    leaderChurn.begin(2 + random.below(8), false)
  },
  'leader-churn-with-changes': ({ leaderChurn, random }) => {
    leaderChurn.begin(2 + random.below(8), true)
  },
  'peer-lost-hint-false': ({ servers, hints, random }) => {
    hints.sendFalse(random.pick(servers).id, random.pick(servers).id)
  },
  'peer-lost-hint-storm': context => {
    // All servers get hints that the live leader is lost; sometimes the leader gets the same about all others.
    const { servers, hints, random, schedule } = context
    const target = leaderOf(context) ?? random.pick(servers)
    const both = random.chance(0.2)
    for (let n = random.below(30); n >= 0; n--) {
      schedule.after(random.between(0, 2_000), () => {
        const peer = random.pick(servers)
        hints.sendFalse(peer.id, target.id)
        if (both) hints.sendFalse(target.id, peer.id)
      })
    }
  },
  'stale-replies': ({ staleReplies, random, schedule }) => {
    staleReplies.replayUntil(schedule.nowMs + random.between(1_000, 8_000))
  },
  'stale-replies-at-an-isolated-leader': context => {
    // It still believes that it leads while another leader commits, and receives old replies as if they were new.
    const { servers, hints, staleReplies, schedule } = context
    const leader = leaderOf(context)
    if (leader === undefined) return false
    isolate(context, leader)
    for (const other of servers) hints.sendFalse(other.id, leader.id)
    staleReplies.replayUntil(schedule.nowMs + 1_500)
    healLater(context)
    return true
  },
  'transfer-of-leadership': ({ servers, random }) => {
    servers.find(server => server.isLeader)?.handle({ kind: 'transfer', to: random.pick(servers).id })
  },
  'transfer-and-cut': context => {
    const { servers, random } = context
    const leader = leaderOf(context)
    if (leader === undefined) return false
    leader.handle({ kind: 'transfer', to: random.pick(servers).id })
    isolate(context, random.pick(servers))
    healLater(context)
    return true
  }
}

export const FAULTS: readonly string[] = [
  ...MESSAGE_FAULTS,
  ...HINT_FAULTS,
  ...Object.keys(ACTIONS).filter(name => name !== 'heal')
]

const MEMBERSHIP_ACTIONS: ReadonlySet<string> = new Set([
  'wiped-disk',
  'bit-flip',
  'add-a-server',
  'remove-a-server',
  'remove-the-leader',
  'swap-a-server',
  'leader-churn-with-changes',
  'invalid-change'
])

/** Draws the fault kinds and rates of this run and injects faults until a time. */
export function injectFaults(context: FaultContext, untilMs: number): void {
  const { random, network, hints, faults, schedule } = context
  const { faultRates } = network
  const isFaultFree = random.chance(0.1)
  if (!isFaultFree) {
    if (random.chance(0.5)) faultRates.loss = random.pick([0.01, 0.05, 0.2])
    if (random.chance(0.4)) faultRates.duplication = random.pick([0.01, 0.1])
    if (random.chance(0.3)) faultRates.delay = random.pick([0.002, 0.02])
    if (random.chance(0.5)) {
      faultRates.jitterMs = random.pick([5, 30, 150])
      faults.add('reorder')
    }
    hints.delivery.delivered = random.pick([0, 0.5, 1])
    if (random.chance(0.3)) hints.delivery.late = 0.5
    if (random.chance(0.3)) hints.delivery.repeated = 0.5
  }
  const share = random.pick([0.15, 0.3, 0.5])
  // Half of the seeds change no membership, because its disturbances mask other faults.
  const isStatic = random.chance(0.5)
  const acts = Object.entries(ACTIONS).filter(
    ([name]) => name === 'heal' || (random.chance(share) && !(isStatic && MEMBERSHIP_ACTIONS.has(name)))
  )
  const everyMs = random.pick([150, 600, 2_000])
  const scheduleNext = (): void => {
    schedule.after(random.between(0, 2 * everyMs), () => {
      if (schedule.nowMs >= untilMs) return
      const [name, act] = random.pick(acts)
      if (act(context) !== false && name !== 'heal') faults.add(name)
      scheduleNext()
    })
  }
  if (!isFaultFree) scheduleNext()
}

/** Isolates or kills a leader, and reconnects the server that was isolated before. */
export function failLeader(context: FaultContext, victim: Server): void {
  context.network.heal()
  if (context.random.chance(0.3)) kill(context, victim, true)
  else isolate(context, victim)
}

function isolate({ servers, network }: FaultContext, victim: { readonly id: PeerId }): void {
  for (const other of servers) {
    network.cut(victim.id, other.id)
    network.cut(other.id, victim.id)
  }
}

function leaderOf({ servers }: FaultContext): Server | undefined {
  return servers.find(server => server.isLeader)
}

function removeServer({ operator }: FaultContext, victim: Server | undefined): void {
  if (victim !== undefined && operator.desiredVoters.size > 1) operator.desiredVoters.delete(victim.id)
}

/**
 * A server whose disk may be lost without losing acknowledged entries: one of at least three voters, while no change is
 * in progress and no other disk is missing. No consensus protocol tolerates more.
 */
function expendable({ servers, operator, invariants, random }: FaultContext): Server | null {
  const victim = random.pick(servers)
  const isSettled = servers.every(
    server => !server.disk.damaged && server.lastConfigIndex <= invariants.committedConfigIndex
  )
  if (!isSettled || !operator.idle || victim.life === null || victim.isLeader) return null
  const configurations = servers.flatMap(({ life }) => life?.state.configuration ?? [])
  return configurations.every(({ voters }) => voters.length > 2) ? victim : null
}

function fillDisks({ schedule, random }: FaultContext, victims: readonly Server[]): void {
  for (const { disk } of victims) disk.full = true
  schedule.after(random.between(100, 4_000), () => {
    for (const { disk } of victims) disk.full = false
  })
}

function healLater({ network, schedule, random }: FaultContext): void {
  if (random.chance(0.8)) schedule.after(random.between(50, 6_000), () => network.heal())
}

function kill({ random, schedule, probes }: FaultContext, victim: Server, torn: boolean): void {
  if (victim.life === null) return
  const { lost, kept } = victim.crash(torn)
  if (torn && lost > 0 && kept > 0) probes.add('torn-write-kept-a-prefix')
  restart({ random, schedule }, victim)
}

function restart({ random, schedule }: Pick<FaultContext, 'random' | 'schedule'>, victim: Server): void {
  schedule.after(random.pick([1, 50, 500, 3_000]) * random.unit(), () => {
    if (victim.life === null) victim.start()
  })
}

function slowDisk({ servers, random, schedule }: FaultContext, ms: number): void {
  const victim = random.pick(servers)
  victim.diskDelayMs = ms
  schedule.after(random.between(500, 8_000), () => {
    victim.diskDelayMs = 0
  })
}
