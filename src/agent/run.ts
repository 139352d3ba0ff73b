// `vxmesh agent`: starts the agent, ends it on a signal, reports its health to the service manager, and turns a fatal error
// into an exit code.

import type { ClusterKeys } from '#config/cluster-key.ts'
import type { Config } from '#config/schema.ts'
import { asVxmeshError, type ExitCode } from '#model/errors.ts'
import { createLogger } from '#platform/log.ts'
import { ServiceManager } from '#platform/service-manager.ts'
import type { Agent } from './agent.ts'
import type { Machine } from './machine.ts'
import { openParts, type Parts, type ReadConfig } from './parts.ts'

/** A reconcile pass is due every 30 s. After this long without one the loop hangs, and the agent is to be restarted. */
const SILENT_MS = 120_000

type RunningAgent = Pick<Agent, 'ended' | 'reload' | 'requestStop' | 'silentMs' | 'statusLine' | 'stop'>

/** Where the agent runs. */
export type AgentHost = {
  /** Emits signals, uncaught exceptions and unhandled rejections. */
  readonly process: Pick<NodeJS.EventEmitter, 'on' | 'once'> & {
    readonly env: NodeJS.ProcessEnv
    exit(code: ExitCode): void
  }
  readonly machine: Machine
  /** Loads what starts an agent: libp2p and the doors take half of the start's time, and Serf starts meanwhile. */
  readonly loadAgent: () => Promise<(parts: Parts) => Promise<RunningAgent>>
}

/**
 * Runs until SIGTERM, SIGINT, `vxmesh leave` or a fatal error.
 * @returns the exit code: 0 for an orderly end, 1 otherwise
 * @throws VxmeshError when it cannot start
 */
export async function runAgent(
  { process, machine, loadAgent }: AgentHost,
  p: { readonly config: Config; readonly keys: ClusterKeys | null; readonly readConfig: ReadConfig }
): Promise<ExitCode> {
  const logger = createLogger(p.config.log.level)
  // An unhandled rejection or a broken invariant: the state in memory can no longer be trusted, so the agent is restarted.
  for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
    process.on(event, (err: unknown) => {
      logger.fatal({ err }, event)
      process.exit(1)
    })
  }
  const manager = ServiceManager.take(process.env, machine.clock)
  const reload = async (agent: RunningAgent): Promise<void> => {
    manager.reloading()
    try {
      await agent.reload()
    } catch (err) {
      logger.error({ err }, 'configuration not read again: nothing has changed')
    } finally {
      manager.ready()
    }
  }
  const started = Promise.withResolvers<RunningAgent>()
  // Registered first: the default action of SIGHUP ends the process. While the agent starts, the file may change after it
  // was read.
  process.on('SIGHUP', () => void started.promise.then(reload))
  const parts = await openParts({ ...p, ...machine, logger })
  const start = await loadAgent()
  const running = await start(parts)
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => running.requestStop())
  manager.ready()
  started.resolve(running)
  manager.beat({ alive: () => running.silentMs < SILENT_MS, status: () => running.statusLine() })
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
