// Runs the command line in this process with captured output, and an agent on a temporary socket.

import { join } from 'node:path'
import type { Test } from 'tap'
import { startApi } from '#api/server.ts'
import type { CliIo } from '#cli/context.ts'
import { runCli } from '#cli/program.ts'
import type { ClusterKeys } from '#config/cluster-key.ts'
import type { Config } from '#config/schema.ts'
import type { ExitCode } from '#model/errors.ts'
import { systemClock } from '#platform/clock.ts'
import { createLogger } from '#platform/log.ts'
import { scratch } from '../api/scratch.ts'
import { MemoryHost } from '#test/agent/memory-host.ts'

export type Run = { readonly code: ExitCode; readonly out: string; readonly err: string }
type RunAgent = (config: Config, keys: ClusterKeys | null) => Promise<ExitCode>

export async function vx(
  argv: readonly string[],
  p: {
    readonly env?: Readonly<Record<string, string>>
    readonly runAgent?: RunAgent
    readonly io?: Partial<CliIo>
  } = {}
): Promise<Run> {
  let [out, err] = ['', '']
  const code = await runCli(argv, {
    io: { env: p.env ?? {}, out: text => (out += text), err: text => (err += text), ...p.io },
    version: '9.9.9',
    doctor: () => import('#agent/doctor/doctor.ts'),
    backup: () => import('#backup/backup.ts'),
    runAgent: p.runAgent ?? (() => Promise.reject(new Error('no agent is to be started')))
  })
  return { code, out, err }
}

/** Starts an agent that serves until the test ends. */
export async function served(t: Test): Promise<{ agent: MemoryHost; env: Readonly<Record<string, string>> }> {
  const agent = new MemoryHost()
  const socketPath = join(scratch(t), 'agent.sock')
  const api = await startApi({ socketPath, agent: agent.port, clock: systemClock, logger: createLogger('silent') })
  t.teardown(() => api.close())
  return { agent, env: { VXMESH_SOCKET: socketPath } }
}
