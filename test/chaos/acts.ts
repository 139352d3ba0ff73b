// What is done to the servers, one act a round: each begins, holds for a while and is mended.

import type { LabHost } from '../lab/host.ts'
import type { Random } from '../sim/random.ts'

export type Act = {
  readonly name: string
  readonly begin: (servers: Servers) => Promise<void>
  readonly mend: (servers: Servers) => Promise<void>
}

export type Servers = { readonly all: readonly LabHost[]; readonly leader: LabHost; readonly random: Random }

async function restart(host: LabHost): Promise<void> {
  await host.startAgent()
}

async function cutBoth(a: LabHost, b: LabHost): Promise<void> {
  await Promise.all([a.dropFrom(b), b.dropFrom(a)])
}

async function healAll({ all }: Servers): Promise<void> {
  await Promise.all(all.map(host => host.heal()))
}

function others({ all, leader }: Servers): readonly LabHost[] {
  return all.filter(host => host !== leader)
}

export const ACTS: readonly Act[] = [
  {
    name: 'kill -9 of the leader',
    begin: ({ leader }) => leader.killAgent(),
    mend: ({ leader }) => restart(leader)
  },
  {
    name: 'kill -9 of a follower',
    begin: servers => servers.random.pick(others(servers)).killAgent(),
    mend: async ({ all }) => {
      for (const host of all) if (host.agentIsGone) await restart(host)
    }
  },
  {
    name: 'the leader is cut off, both ways',
    begin: async servers => {
      for (const other of others(servers)) await cutBoth(servers.leader, other)
    },
    mend: healAll
  },
  {
    name: 'the leader hears nobody',
    begin: async servers => {
      for (const other of others(servers)) await servers.leader.dropFrom(other)
    },
    mend: healAll
  },
  {
    name: 'nobody hears the leader',
    begin: async servers => {
      for (const other of others(servers)) await other.dropFrom(servers.leader)
    },
    mend: healAll
  },
  {
    name: 'the leader and one follower cannot hear each other',
    begin: servers => cutBoth(servers.leader, servers.random.pick(others(servers))),
    mend: healAll
  },
  {
    name: 'kill -9 of all servers',
    begin: async ({ all }) => {
      await Promise.all(all.map(host => host.killAgent()))
    },
    mend: async ({ all }) => {
      await Promise.all(all.map(restart))
    }
  },
  {
    name: 'the leader’s process is stopped and goes on',
    begin: async ({ leader }) => {
      leader.pause()
    },
    mend: async ({ leader }) => {
      leader.resume()
    }
  }
]
