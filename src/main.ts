// The program: runs the command line. The agent is loaded only for `vxmesh agent`.

import { runCli } from '#cli/program.ts'
import { isJournal, priority } from '#platform/journal.ts'
import { VERSION } from '#platform/version.ts'

// The reader of a pipe may close it (`vxmesh events | head -1`): then there is nothing left to do.
process.stdout.on('error', (err: NodeJS.ErrnoException) => {
  if (err.code !== 'EPIPE') throw err
  process.exit()
})

process.exitCode = await runCli(process.argv.slice(2), {
  io: {
    env: process.env,
    out: text => process.stdout.write(text),
    err: text => process.stderr.write(isJournal(process.env) ? `${priority('error')}${text}` : text),
    columns: process.stdout.columns,
    // https://no-color.org
    color: process.stdout.isTTY && (process.env['NO_COLOR'] ?? '') === '' && process.env['TERM'] !== 'dumb'
  },
  version: VERSION,
  doctor: () => import('#agent/doctor/doctor.ts'),
  backup: () => import('#backup/backup.ts'),
  runAgent: async (config, keys, readConfig) => {
    const [{ runAgent }, { systemHost }] = await Promise.all([import('#agent/run.ts'), import('#agent/system.ts')])
    const code = await runAgent(systemHost, { config, keys, readConfig })
    // The agent has ended, but libp2p still holds timers: its address manager sets one when the listeners close, after the
    // stop that would have cleared it, and gossipsub waits for its last heartbeat.
    process.exit(code)
  }
})
