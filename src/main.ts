// The program: the command line, and behind `vxmesh agent` the agent, loaded only then.

import { runCli } from '#cli/program.ts'
import { isJournal, priority } from '#platform/journal.ts'
import { VERSION } from '#platform/version.ts'

// Who reads us may stop reading (`vxmesh events | head -1`): then there is nothing left to do.
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
  runAgent: async (...args) => {
    const { runAgent } = await import('#agent/run.ts')
    const code = await runAgent(...args)
    // All that is ours has ended. libp2p has not: when its listeners end it sets a timer of a second after the stop that
    // would have cleared it (address manager), and gossipsub lets its last heartbeat come.
    process.exit(code)
  }
})
