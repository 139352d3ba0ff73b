// Plausible figures of an agent, all different, so that none can be mistaken for another.

import type { Figures } from '#metrics/figures.ts'
import type { NetworkName } from '#model/ids.ts'

export const BLUE = 'blue' as NetworkName

export const SOME: Figures = {
  version: '1.2.3',
  members: { alive: 3, leaving: 1, left: 2, failed: 4 },
  raft: {
    term: 11,
    isLeader: true,
    hasLeader: true,
    commitIndex: 101,
    appliedIndex: 99,
    leaderChanges: 5,
    refusedMessages: 9,
    proposalRetries: 6
  },
  feedLag: 7,
  ready: true,
  hosts: 8,
  networks: 9,
  endpoints: 10,
  services: 30,
  addresses: [{ network: BLUE, used: 12, free: 241 }],
  traffic: [
    {
      network: BLUE,
      endpoints: 13,
      rxBytes: 14,
      txBytes: 15,
      rxPackets: 16,
      txPackets: 17,
      rxRate: 1_440,
      txRate: 152
    }
  ],
  unlisted: 20,
  overlay: { drift: 21, degraded: 22, repaired: { 'fdb-add': 23, 'endpoint-attach': 24 } },
  diverged: false,
  refused: { 'not a preamble': 25, 'wrong proof': 26 },
  names: { resolvers: 32, queries: { own: 33, limited: 34 }, cacheBytes: 35 },
  guardDrops: { forged: 30, stranger: 31 },
  serf: { droppedPackets: { stranger: 27, member: 28 }, logDroppedBytes: 29 }
}
