// Peace: a healthy cluster after the calm. Nothing may depose a leader that a majority hears, whatever is said of lost
// connections; and when it does die, and all are told so again and again, there is another one soon.

import type { Invariants } from './invariants.ts'
import type { Network } from './network.ts'
import type { Random } from './random.ts'
import type { Schedule } from './schedule.ts'
import type { Server } from './server.ts'
import type { Word } from './peer-lost-hints.ts'

export type Land = {
  readonly voters: readonly Server[]
  readonly random: Random
  readonly schedule: Schedule
  readonly network: Network
  readonly word: Word
  readonly invariants: Invariants
  readonly runUntil: (atMs: number) => void
}

const RUMOURS_MS = 2_000
/** Several votes may be split before one is not. */
const SUCCESSION_MS = 10_000

export function keepPeace(land: Land): void {
  const { voters, invariants } = land
  const leader = voters.find(server => server.isLeader)
  if (leader === undefined) {
    invariants.fail('nobody leads when all is calm')
    return
  }
  stays(land, leader, 'false word of lost connections', () => {
    rumours(land, RUMOURS_MS, voters)
  })
  if (voters.length < 3) return
  stays(land, leader, 'one voter out of its sight', () => {
    const voter = land.random.pick(voters.filter(server => server !== leader))
    land.network.cut(leader.id, voter.id)
    land.network.cut(voter.id, leader.id)
    rumours(land, RUMOURS_MS, [leader, voter])
  })
  succeeds(land, leader)
}

/** Everybody among these is told of everybody, more often than heartbeats come. */
function rumours({ schedule, random, word }: Land, forMs: number, among: readonly Server[]): void {
  for (let ms = random.between(0, 60); ms < forMs; ms += random.between(0, 60)) {
    schedule.after(ms, () => {
      for (const at of among) for (const lost of among) word.falsely(at.id, lost.id)
    })
  }
}

function stays(land: Land, leader: Server, despite: string, trouble: () => void): void {
  const { schedule, network, invariants, runUntil } = land
  const term = leader.life?.state.term
  trouble()
  runUntil(schedule.nowMs + RUMOURS_MS)
  network.heal()
  runUntil(schedule.nowMs + RUMOURS_MS / 2)
  if (!leader.isLeader || leader.life?.state.term !== term) {
    invariants.fail(`${leader.id} leads term ${term} and is deposed by ${despite}`)
  }
}

function succeeds(land: Land, leader: Server): void {
  const { schedule, voters, invariants, runUntil } = land
  leader.crash(false)
  rumours(land, SUCCESSION_MS, voters)
  const untilMs = schedule.nowMs + SUCCESSION_MS
  const isLed = (): boolean => voters.some(server => server.isLeader)
  while (schedule.nowMs < untilMs && !isLed() && invariants.violation === null) runUntil(schedule.nowMs + 100)
  if (!isLed()) invariants.fail(`nobody takes the place of ${leader.id}, which all know to be dead`)
}
