// The machine and the process as production has them.

import { flushCompileCache } from 'node:module'
import { Membership } from '#membership/serf/membership.ts'
import { systemClock } from '#platform/clock.ts'
import { holdContainerNetns } from '#platform/container-netns.ts'
import { collectGarbage } from '#platform/garbage.ts'
import { isNetns } from '#platform/netns.ts'
import { systemRandom } from '#platform/random.ts'
import type { Machine } from './machine.ts'
import { openDriver } from './open-driver.ts'
import type { AgentHost } from './run.ts'

/** When an agent has started, and the first passes and elections are over. */
const SETTLED_MS = 10_000

export const systemMachine: Machine = {
  clock: systemClock,
  random: systemRandom,
  openDriver,
  makeMembership: options => new Membership(options),
  startMesh: async options => (await loadMesh()).Mesh.start(options),
  startZmq: async options => (await loadZmq()).ZmqServer.start(options),
  netns: directories => ({ hold: path => holdContainerNetns(path, directories), isNetns })
}

export const systemHost: AgentHost = {
  process,
  machine: systemMachine,
  loadAgent: async () => {
    const [{ Agent }] = await Promise.all([import('./agent.ts'), loadMesh(), loadZmq()])
    // The compile cache is written now, not only at an orderly end, so that a killed agent restarts as fast.
    flushCompileCache()
    return async parts => {
      const agent = await Agent.start(parts)
      // A fifth of the heap is what the start has left. V8 looks only when the heap has grown, which takes an idle agent hours;
      // once it has looked, it goes on by itself whenever little is allocated.
      parts.clock.after(SETTLED_MS, () => void collectGarbage('major'))
      return agent
    }
  }
}

/** Large libraries are loaded while Serf starts. */
function loadMesh(): Promise<typeof import('#replication/transport/mesh.ts')> {
  return import('#replication/transport/mesh.ts')
}

function loadZmq(): Promise<typeof import('#zmq/server.ts')> {
  return import('#zmq/server.ts')
}
