// `vxmesh doctor`: what is wrong with this host and what to do. Asks the agent; when it is away, the machine alone.

import type { Command } from 'commander'
import { loadConfig } from '#config/load.ts'
import { asVxmeshError, type ExitCode } from '#model/errors.ts'
import type { DoctorView, FindingView } from '#model/views.ts'
import { addSettings, settingsOf } from './agent-command.ts'
import { ApiClient } from './client.ts'
import type { CommandContext } from './context.ts'
import { doctorText } from './shapes.ts'

/** An agent takes 10 s at most; one that takes longer hangs. */
const ANSWER_MS = 15_000

export function doctorCommand(program: Command, p: CommandContext & { readonly exit: (code: ExitCode) => void }): void {
  addSettings(
    program
      .command('doctor')
      .description(
        'Check this host and its ways to the others; say what is wrong and what to do. Exits 7 if a check fails.'
      )
      .option('--offline', 'do not ask the agent: check the machine alone')
      .addHelpText(
        'after',
        '\nWithout an agent it checks the machine by the settings, which it takes as' +
          '\n`vxmesh agent` does.\nExample: vxmesh doctor --config /etc/vxmesh/vxmesh.yaml'
      )
  ).action(async function (this: Command) {
    const { failed } = await p.show<DoctorView>(this, () => answer(this, p), doctorText)
    if (failed > 0) p.exit(7)
  })
}

async function answer(command: Command, { io, doctor, socketOf }: CommandContext): Promise<DoctorView> {
  const see = 'systemctl status vxmesh, journalctl -u vxmesh: see why it does not answer'
  const away = (level: 'warning' | 'failed', found: string): FindingView => ({ id: 'agent', level, found, todo: see })
  const config = await loadConfig(settingsOf(command, io)).catch((err: unknown) => asVxmeshError(err))
  const settings = config instanceof Error ? null : config
  let agent = away('warning', 'not asked: --offline')
  if (command.opts()['offline'] !== true) {
    try {
      const client = new ApiClient(settings?.socket ?? socketOf(command), ANSWER_MS)
      return (await client.call('GET', '/v1/doctor')) as DoctorView
    } catch (thrown) {
      const err = asVxmeshError(thrown)
      if (err.code !== 'ERR_AGENT_UNREACHABLE' && err.code !== 'ERR_TIMEOUT') throw err
      agent = away('failed', err.message)
    }
  }
  // Without settings nobody knows what to look at. Only they are asked for what is wrong with them.
  if (config instanceof Error) throw config
  return (await doctor()).examineMachine(config, agent)
}
