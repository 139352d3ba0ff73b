// The machine and the process as production has them.

import { flushCompileCache } from 'node:module'
import { Membership } from '#membership/serf/membership.ts'
import { systemClock } from '#platform/clock.ts'
import { holdContainerNetns } from '#platform/container-netns.ts'
import { isNetns } from '#platform/netns.ts'
import { systemRandom } from '#platform/random.ts'
import type { Machine } from './machine.ts'
import { openDriver } from './open-driver.ts'
import type { AgentHost } from './run.ts'

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
    return parts => Agent.start(parts)
  }
}

/** Large libraries are loaded while Serf starts. */
function loadMesh(): Promise<typeof import('#replication/transport/mesh.ts')> {
  return import('#replication/transport/mesh.ts')
}

function loadZmq(): Promise<typeof import('#zmq/server.ts')> {
  return import('#zmq/server.ts')
}
