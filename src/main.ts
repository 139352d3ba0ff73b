// The program: runs the command line. The agent is loaded only for `vxmesh agent`.

import { runCli } from '#cli/program.ts'
import { exitOnClosedPipe, terminalOf } from '#cli/terminal.ts'
import { VERSION } from '#platform/version.ts'

exitOnClosedPipe(process)
process.exitCode = await runCli(process.argv.slice(2), {
  io: terminalOf(process),
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
