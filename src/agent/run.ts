// `vxmesh agent`: starts the agent, ends it on a signal, tells the service manager how it is, and turns what it cannot go
// on with into an exit code.

import { flushCompileCache } from 'node:module'
import type { ClusterKeys } from '#config/cluster-key.ts'
import type { Config } from '#config/schema.ts'
import { asVxmeshError, type ExitCode } from '#model/errors.ts'
import { systemClock } from '#platform/clock.ts'
import { createLogger } from '#platform/log.ts'
import { ServiceManager } from '#platform/service-manager.ts'
import type { Agent } from './agent.ts'
import { openParts, type ReadConfig } from './parts.ts'

/** No pass of the reconcile loop for so long, with one due every 30 s: it hangs, and a new agent does better. */
const SILENT_MS = 120_000

/**
 * Runs until SIGTERM, SIGINT, `vxmesh leave` or a fatal error.
 * @returns the exit code: 0 for an orderly end, 1 otherwise
 * @throws VxmeshError when it cannot start
 */
export async function runAgent(config: Config, keys: ClusterKeys | null, readConfig: ReadConfig): Promise<ExitCode> {
  const logger = createLogger(config.log.level)
  // A rejection that nobody awaited, or a broken invariant: the state can no longer be trusted, a restart can.
  for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
    process.on(event, (err: unknown) => {
      logger.fatal({ err }, event)
      process.exit(1)
    })
  }
  const manager = ServiceManager.take(process.env, systemClock)
  let agent: Agent | null = null
  const reload = async (): Promise<void> => {
    // Before the agent is there nothing is running with an old configuration.
    if (agent === null) return
    manager.reloading()
    try {
      await agent.reload()
    } catch (err) {
      logger.error({ err }, 'configuration not read again: nothing has changed')
    } finally {
      manager.ready()
    }
  }
  // From the first moment on: its default would end us.
  process.on('SIGHUP', () => void reload())
  const parts = await openParts({ config, keys, logger, readConfig })
  // Half of the time of a start is the loading of libp2p and the doors: Serf starts meanwhile.
  const [{ Agent }, { statusLine }] = await Promise.all([import('./agent.ts'), import('./observe/figures.ts')])
  // What was compiled is kept from here on, not from an orderly end alone: an agent that was killed is to be back as soon.
  flushCompileCache()
  const running = (agent = await Agent.start(parts))
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => running.requestStop())
  manager.ready()
  manager.beat({ alive: () => running.reconciler.silentMs < SILENT_MS, status: () => statusLine(running) })
  const failure = await running.ended
  manager.stopping()
  if (failure !== null) {
    logger.fatal({ err: asVxmeshError(failure) }, 'the agent cannot go on')
    return 1
  }
  await running.stop()
  logger.info('agent stopped')
  return 0
}
