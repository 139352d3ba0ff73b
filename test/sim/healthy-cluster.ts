// Liveness of a healthy cluster, after recovery: false hints must not depose a leader that a majority replies to, and
// when the leader dies, repeated hints must not delay the election of another one.

import type { Invariants } from './invariants.ts'
import type { Network } from './network.ts'
import type { Random } from './random.ts'
import type { Schedule } from './schedule.ts'
import type { Server } from './server.ts'
import type { PeerLostHints } from './peer-lost-hints.ts'

export type HealthyCluster = {
  readonly voters: readonly Server[]
  readonly random: Random
  readonly schedule: Schedule
  readonly network: Network
  readonly hints: PeerLostHints
  readonly invariants: Invariants
  readonly runUntil: (atMs: number) => void
}

const FALSE_HINTS_MS = 2_000
/** Enough for several split votes in a row. */
const ELECTION_MS = 10_000

export function checkHealthyCluster(cluster: HealthyCluster): void {
  const { voters, invariants } = cluster
  const leader = voters.find(server => server.isLeader)
  if (leader === undefined) {
    invariants.fail('no leader although all faults have ended')
    return
  }
  checkLeaderStays(cluster, leader, 'false peer-lost hints', () => {
    sendFalseHints(cluster, FALSE_HINTS_MS, voters)
  })
  if (voters.length < 3) return
  checkLeaderStays(cluster, leader, 'the loss of one follower', () => {
    const voter = cluster.random.pick(voters.filter(server => server !== leader))
    cluster.network.cut(leader.id, voter.id)
    cluster.network.cut(voter.id, leader.id)
    sendFalseHints(cluster, FALSE_HINTS_MS, [leader, voter])
  })
  checkFailover(cluster, leader)
}

/** Every one of these servers gets false hints about every other, more often than heartbeats arrive. */
function sendFalseHints({ schedule, random, hints }: HealthyCluster, forMs: number, among: readonly Server[]): void {
  for (let ms = random.between(0, 60); ms < forMs; ms += random.between(0, 60)) {
    schedule.after(ms, () => {
      for (const at of among) for (const lost of among) hints.sendFalse(at.id, lost.id)
    })
  }
}

function checkLeaderStays(cluster: HealthyCluster, leader: Server, despite: string, disturb: () => void): void {
  const { schedule, network, invariants, runUntil } = cluster
  const term = leader.life?.state.term
  disturb()
  runUntil(schedule.nowMs + FALSE_HINTS_MS)
  network.heal()
  runUntil(schedule.nowMs + FALSE_HINTS_MS / 2)
  if (!leader.isLeader || leader.life?.state.term !== term) {
    invariants.fail(`${leader.id}, the leader of term ${term}, was deposed by ${despite}`)
  }
}

function checkFailover(cluster: HealthyCluster, leader: Server): void {
  const { schedule, voters, invariants, runUntil } = cluster
  leader.crash(false)
  sendFalseHints(cluster, ELECTION_MS, voters)
  const untilMs = schedule.nowMs + ELECTION_MS
  const isLed = (): boolean => voters.some(server => server.isLeader)
  while (schedule.nowMs < untilMs && !isLed() && invariants.violation === null) runUntil(schedule.nowMs + 100)
  if (!isLed()) invariants.fail(`no server succeeds ${leader.id}, which all know to be dead`)
}
