// Faults for real servers, one per round. Each fault begins, lasts for a while and is repaired.

import type { LabHost } from '../lab/host.ts'
import type { Random } from '../sim/random.ts'

export type ChaosFault = {
  readonly name: string
  readonly begin: (servers: Servers) => Promise<void>
  readonly repair: (servers: Servers) => Promise<void>
}

export type Servers = { readonly all: readonly LabHost[]; readonly leader: LabHost; readonly random: Random }

async function restart(host: LabHost): Promise<void> {
  await host.startAgent()
}

async function partition(a: LabHost, b: LabHost): Promise<void> {
  await Promise.all([a.dropFrom(b), b.dropFrom(a)])
}

async function healNetwork({ all }: Servers): Promise<void> {
  await Promise.all(all.map(host => host.heal()))
}

function others({ all, leader }: Servers): readonly LabHost[] {
  return all.filter(host => host !== leader)
}

export const CHAOS_FAULTS: readonly ChaosFault[] = [
  {
    name: 'kill -9 of the leader',
    begin: ({ leader }) => leader.killAgent(),
    repair: ({ leader }) => restart(leader)
  },
  {
    name: 'kill -9 of a follower',
    begin: servers => servers.random.pick(others(servers)).killAgent(),
    repair: async ({ all }) => {
      for (const host of all) if (host.agentIsGone) await restart(host)
    }
  },
  {
    name: 'the leader is partitioned in both directions',
    begin: async servers => {
      for (const other of others(servers)) await partition(servers.leader, other)
    },
    repair: healNetwork
  },
  {
    name: 'the leader receives nothing',
    begin: async servers => {
      for (const other of others(servers)) await servers.leader.dropFrom(other)
    },
    repair: healNetwork
  },
  {
    name: 'nothing that the leader sends arrives',
    begin: async servers => {
      for (const other of others(servers)) await other.dropFrom(servers.leader)
    },
    repair: healNetwork
  },
  {
    name: 'the link between the leader and one follower is cut',
    begin: servers => partition(servers.leader, servers.random.pick(others(servers))),
    repair: healNetwork
  },
  {
    name: 'kill -9 of all servers',
    begin: async ({ all }) => {
      await Promise.all(all.map(host => host.killAgent()))
    },
    repair: async ({ all }) => {
      await Promise.all(all.map(restart))
    }
  },
  {
    name: 'the leader’s process is paused and resumed',
    begin: async ({ leader }) => {
      leader.pause()
    },
    repair: async ({ leader }) => {
      leader.resume()
    }
  }
]
