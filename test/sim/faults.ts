// What goes wrong, and when. Each seed has its own climate: some kinds of fault switched on, some off, so that rare
// combinations get whole runs to themselves (swarm testing, Groce et al., ISSTA '12).

import type { PeerId } from '#model/ids.ts'
import type { Message } from '#raft/types.ts'
import type { Echo } from './stale-replies.ts'
import type { Hunt } from './leader-churn.ts'
import type { Invariants } from './invariants.ts'
import type { Network } from './network.ts'
import type { Operator } from './operator.ts'
import type { Random } from './random.ts'
import type { Schedule } from './schedule.ts'
import type { Server } from './server.ts'
import type { Tally } from './counters.ts'
import type { Word } from './peer-lost-hints.ts'

export type Arena = {
  readonly servers: readonly Server[]
  readonly random: Random
  readonly schedule: Schedule
  readonly network: Network
  readonly word: Word
  readonly faults: Tally
  readonly probes: Tally
  readonly hunt: Hunt
  readonly operator: Operator
  readonly echo: Echo
  readonly invariants: Invariants
  /** A random message of the past, to be sent again. */
  readonly replay: () => Message | null
  readonly deliver: (message: Message) => void
}

/** False: there was nothing to do it to. */
type Act = (arena: Arena) => boolean | void

/** What the weather does with single messages (network.ts). */
const WEATHER_FAULTS = ['loss', 'duplication', 'delay', 'reorder'] as const

/** What becomes of the word that a connection broke (word.ts). */
const WORD_FAULTS = ['lost-peer-told-late', 'lost-peer-told-again'] as const

const ACTS: Readonly<Record<string, Act>> = {
  'partition-symmetric': arena => {
    const { servers, random, network } = arena
    const side = new Set(servers.filter(() => random.chance(0.5)))
    for (const a of servers) for (const b of servers) if (side.has(a) !== side.has(b)) network.cut(a.id, b.id)
    healLater(arena)
  },
  'partition-of-the-leader': arena => {
    const leader = leaderOf(arena)
    if (leader !== undefined) isolate(arena, leader)
    healLater(arena)
  },
  'partition-one-way-out': arena => {
    const { servers, random, network } = arena
    const victim = random.pick(servers)
    for (const other of servers) network.cut(victim.id, other.id)
    healLater(arena)
  },
  'partition-one-way-in': arena => {
    const { servers, random, network } = arena
    const victim = random.pick(servers)
    for (const other of servers) network.cut(other.id, victim.id)
    healLater(arena)
  },
  'partition-partial': arena => {
    // Two that cannot hear each other, and a third that hears both.
    const { servers, random, network } = arena
    const [a, b] = [random.pick(servers), random.pick(servers)]
    network.cut(a.id, b.id)
    network.cut(b.id, a.id)
    healLater(arena)
  },
  'partial-mesh': arena => {
    const { servers, random, network } = arena
    for (const a of servers) {
      for (const b of servers) {
        if (a.number >= b.number || random.chance(0.5)) continue
        network.cut(a.id, b.id)
        network.cut(b.id, a.id)
      }
    }
    healLater(arena)
  },
  'slow-network': ({ network, random, schedule }) => {
    // Slower than an election: votes and answers come in when their term is over.
    network.slow(random.pick([400, 1_500]), schedule.nowMs + random.between(1_000, 8_000))
  },
  'link-flapping': arena => {
    const { servers, random, network, schedule } = arena
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
  'kill-one': arena => {
    kill(arena, arena.random.pick(arena.servers), false)
  },
  'kill-the-leader': arena => {
    const leader = leaderOf(arena)
    if (leader !== undefined) kill(arena, leader, false)
  },
  'kill-a-majority': arena => {
    const { servers, random } = arena
    const victims = [...servers].sort(() => random.unit() - 0.5).slice(0, Math.floor(servers.length / 2) + 1)
    for (const victim of victims) kill(arena, victim, false)
  },
  'power-cut-of-all': arena => {
    for (const server of arena.servers) kill(arena, server, true)
  },
  'torn-write': arena => {
    kill(arena, arena.random.pick(arena.servers), true)
  },
  'crash-loop': arena => {
    const { servers, random, schedule } = arena
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
  'slow-disk': arena => {
    slow(arena, arena.random.between(10, 200))
  },
  'hung-disk': arena => {
    slow(arena, arena.random.between(2_000, 10_000))
  },
  'disk-full': arena => {
    fill(arena, [arena.random.pick(arena.servers)])
  },
  'disk-full-on-all': arena => {
    fill(arena, arena.servers)
  },
  'sync-error': ({ servers, random }) => {
    random.pick(servers).failSync = true
  },
  'wiped-disk': arena => {
    const victim = expendable(arena)
    if (victim === null) return false
    victim.crash(false)
    victim.wipe()
    restart(arena, victim)
    return true
  },
  'bit-flip': arena => {
    const victim = expendable(arena)
    if (victim === null) return false
    victim.crash(false)
    victim.disk.damaged = true
    restart(arena, victim)
    return true
  },
  'add-a-server': ({ servers, operator, random }) => {
    operator.wish.add(random.pick(servers).id)
  },
  'remove-a-server': arena => {
    dismiss(arena, arena.random.pick(arena.servers))
  },
  'remove-the-leader': arena => {
    dismiss(arena, leaderOf(arena))
  },
  'swap-a-server': arena => {
    arena.operator.wish.add(arena.random.pick(arena.servers).id)
    dismiss(arena, arena.random.pick(arena.servers))
  },
  'senseless-change': ({ servers, random }) => {
    const peer = random.pick(servers)
    const incarnation = peer.disk.incarnation
    const change = random.chance(0.5)
      ? ({ kind: 'promote', peer: peer.id } as const)
      : ({ kind: 'add-learner', peer: peer.id, incarnation } as const)
    random.pick(servers).give({ kind: 'change', id: 0, change })
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
  'stranger-message': ({ replay, deliver }) => {
    const message = replay()
    if (message !== null) {
      deliver({
        ...message,
        clusterId: 'another' as Message['clusterId'],
        term: (message.term + 100) as Message['term']
      })
    }
  },
  'hunt-of-leaders': ({ hunt, random }) => {
    hunt.begin(2 + random.below(8), false)
  },
  'hunt-with-changes': ({ hunt, random }) => {
    hunt.begin(2 + random.below(8), true)
  },
  'lost-peer-told-falsely': ({ servers, word, random }) => {
    word.falsely(random.pick(servers).id, random.pick(servers).id)
  },
  'storm-of-lost-peers': arena => {
    // All are told that the leader, who lives, is lost; sometimes it is told the same of all.
    const { servers, word, random, schedule } = arena
    const target = leaderOf(arena) ?? random.pick(servers)
    const both = random.chance(0.2)
    for (let n = random.below(30); n >= 0; n--) {
      schedule.after(random.between(0, 2_000), () => {
        const peer = random.pick(servers)
        word.falsely(peer.id, target.id)
        if (both) word.falsely(target.id, peer.id)
      })
    }
  },
  'echo-of-answers': ({ echo, random, schedule }) => {
    echo.begin(schedule.nowMs + random.between(1_000, 8_000))
  },
  'echo-at-a-cut-off-leader': arena => {
    // By its own account it leads while another one commits, and old answers come to it as if they were new.
    const { servers, word, echo, schedule } = arena
    const leader = leaderOf(arena)
    if (leader === undefined) return false
    isolate(arena, leader)
    for (const other of servers) word.falsely(other.id, leader.id)
    echo.begin(schedule.nowMs + 1_500)
    healLater(arena)
    return true
  },
  'transfer-of-leadership': ({ servers, random }) => {
    servers.find(server => server.isLeader)?.give({ kind: 'transfer', to: random.pick(servers).id })
  },
  'transfer-and-cut': arena => {
    const { servers, random } = arena
    const leader = leaderOf(arena)
    if (leader === undefined) return false
    leader.give({ kind: 'transfer', to: random.pick(servers).id })
    isolate(arena, random.pick(servers))
    healLater(arena)
    return true
  }
}

export const FAULTS: readonly string[] = [
  ...WEATHER_FAULTS,
  ...WORD_FAULTS,
  ...Object.keys(ACTS).filter(name => name !== 'heal')
]

const MEMBERSHIP_ACTS: ReadonlySet<string> = new Set([
  'wiped-disk',
  'bit-flip',
  'add-a-server',
  'remove-a-server',
  'remove-the-leader',
  'swap-a-server',
  'hunt-with-changes',
  'senseless-change'
])

/** Draws a climate and lets it rage until a time. */
export function unleash(arena: Arena, untilMs: number): void {
  const { random, network, word, faults, schedule } = arena
  const { weather } = network
  const calm = random.chance(0.1)
  if (!calm) {
    if (random.chance(0.5)) weather.loss = random.pick([0.01, 0.05, 0.2])
    if (random.chance(0.4)) weather.duplication = random.pick([0.01, 0.1])
    if (random.chance(0.3)) weather.delay = random.pick([0.002, 0.02])
    if (random.chance(0.5)) {
      weather.jitterMs = random.pick([5, 30, 150])
      faults.add('reorder')
    }
    word.telling.told = random.pick([0, 0.5, 1])
    if (random.chance(0.3)) word.telling.late = 0.5
    if (random.chance(0.3)) word.telling.repeated = 0.5
  }
  const share = random.pick([0.15, 0.3, 0.5])
  // Half of the seeds leave the membership alone: what it stirs up hides the rest.
  const settled = random.chance(0.5)
  const acts = Object.entries(ACTS).filter(
    ([name]) => name === 'heal' || (random.chance(share) && !(settled && MEMBERSHIP_ACTS.has(name)))
  )
  const everyMs = random.pick([150, 600, 2_000])
  const again = (): void => {
    schedule.after(random.between(0, 2 * everyMs), () => {
      if (schedule.nowMs >= untilMs) return
      const [name, act] = random.pick(acts)
      if (act(arena) !== false && name !== 'heal') faults.add(name)
      again()
    })
  }
  if (!calm) again()
}

/** A hunted leader is cut off, or dies; whoever was cut off before it comes back. */
export function strike(arena: Arena, victim: Server): void {
  arena.network.heal()
  if (arena.random.chance(0.3)) kill(arena, victim, true)
  else isolate(arena, victim)
}

function isolate({ servers, network }: Arena, victim: { readonly id: PeerId }): void {
  for (const other of servers) {
    network.cut(victim.id, other.id)
    network.cut(other.id, victim.id)
  }
}

function leaderOf({ servers }: Arena): Server | undefined {
  return servers.find(server => server.isLeader)
}

function dismiss({ operator }: Arena, victim: Server | undefined): void {
  if (victim !== undefined && operator.wish.size > 1) operator.wish.delete(victim.id)
}

/**
 * A server whose disk may be lost without losing what was acknowledged: one of at least three voters, while no change is
 * under way and no other disk is missing. More than that no consensus can bear.
 */
function expendable({ servers, operator, invariants, random }: Arena): Server | null {
  const victim = random.pick(servers)
  const settled = servers.every(
    server => !server.disk.damaged && server.lastConfigIndex <= invariants.committedConfigIndex
  )
  if (!settled || !operator.atRest || victim.life === null || victim.isLeader) return null
  const configurations = servers.flatMap(({ life }) => life?.state.configuration ?? [])
  return configurations.every(({ voters }) => voters.length > 2) ? victim : null
}

function fill({ schedule, random }: Arena, victims: readonly Server[]): void {
  for (const { disk } of victims) disk.full = true
  schedule.after(random.between(100, 4_000), () => {
    for (const { disk } of victims) disk.full = false
  })
}

function healLater({ network, schedule, random }: Arena): void {
  if (random.chance(0.8)) schedule.after(random.between(50, 6_000), () => network.heal())
}

function kill({ random, schedule, probes }: Arena, victim: Server, torn: boolean): void {
  if (victim.life === null) return
  const { lost, kept } = victim.crash(torn)
  if (torn && lost > 0 && kept > 0) probes.add('torn-write-kept-a-part')
  restart({ random, schedule }, victim)
}

function restart({ random, schedule }: Pick<Arena, 'random' | 'schedule'>, victim: Server): void {
  schedule.after(random.pick([1, 50, 500, 3_000]) * random.unit(), () => {
    if (victim.life === null) victim.start()
  })
}

function slow({ servers, random, schedule }: Arena, ms: number): void {
  const victim = random.pick(servers)
  victim.diskDelayMs = ms
  schedule.after(random.between(500, 8_000), () => {
    victim.diskDelayMs = 0
  })
}
