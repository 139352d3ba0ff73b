// `vxmesh agent`: starts the agent, ends it on a signal, and turns what it cannot go on with into an exit code.

import type { ClusterKeys } from '#config/cluster-key.ts'
import type { Config } from '#config/schema.ts'
import { asVxmeshError, type ExitCode } from '#model/errors.ts'
import { createLogger } from '#platform/log.ts'
import { Agent } from './agent.ts'

/**
 * Runs until SIGTERM, SIGINT, `vxmesh leave` or a fatal error.
 * @returns the exit code: 0 for an orderly end, 1 otherwise
 * @throws VxmeshError when it cannot start
 */
export async function runAgent(config: Config, keys: ClusterKeys | null): Promise<ExitCode> {
  const logger = createLogger(config.log.level)
  // A rejection that nobody awaited, or a broken invariant: the state can no longer be trusted, a restart can.
  for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
    process.on(event, (err: unknown) => {
      logger.fatal({ err }, event)
      process.exit(1)
    })
  }
  const agent = await Agent.start(config, keys, logger)
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => agent.requestStop())
  const failure = await agent.ended
  if (failure !== null) {
    logger.fatal({ err: asVxmeshError(failure) }, 'the agent cannot go on')
    return 1
  }
  await agent.stop()
  logger.info('agent stopped')
  return 0
}
