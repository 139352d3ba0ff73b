// `vxmesh doctor`: checks this host, with advice. Asks the agent; without one it checks the machine itself.

import type { Command } from 'commander'
import { loadConfig } from '#config/load.ts'
import { asVxmeshError, type ExitCode } from '#model/errors.ts'
import type { DoctorView, FindingView } from '#model/views.ts'
import { addSettings, settingsOf } from './agent-command.ts'
import { ApiClient } from './client.ts'
import type { CommandContext } from './context.ts'
import { doctorText } from './shapes.ts'

/** The agent answers within 10 s; one that takes longer hangs. */
const ANSWER_MS = 15_000

export function doctorCommand(program: Command, p: CommandContext & { readonly exit: (code: ExitCode) => void }): void {
  addSettings(
    program
      .command('doctor')
      .description(
        'Check this host and its paths to the others, with advice on what fails. Exits with 7 if a check fails.'
      )
      .option('--offline', 'check the machine only, without the agent')
      .addHelpText(
        'after',
        '\nWithout an agent it checks the machine against the settings, which it reads as' +
          '\n`vxmesh agent` does.\nExample: vxmesh doctor --config /etc/vxmesh/vxmesh.yaml'
      )
  ).action(async function (this: Command) {
    const { failed } = await p.show<DoctorView>(this, () => answer(this, p), doctorText)
    if (failed > 0) p.exit(7)
  })
}

async function answer(command: Command, { io, doctor, socketOf }: CommandContext): Promise<DoctorView> {
  const advice = 'find out why it does not answer: systemctl status vxmesh, journalctl -u vxmesh'
  const withoutAgent = (level: 'warning' | 'failed', found: string): FindingView => ({
    id: 'agent',
    level,
    found,
    todo: advice
  })
  const config = await loadConfig(settingsOf(command, io)).catch((err: unknown) => asVxmeshError(err))
  const settings = config instanceof Error ? null : config
  let agent = withoutAgent('warning', 'not asked: --offline')
  if (command.opts()['offline'] !== true) {
    try {
      const client = new ApiClient(settings?.socket ?? socketOf(command), ANSWER_MS)
      return (await client.call('GET', '/v1/doctor')) as DoctorView
    } catch (thrown) {
      const err = asVxmeshError(thrown)
      if (err.code !== 'ERR_AGENT_UNREACHABLE' && err.code !== 'ERR_TIMEOUT') throw err
      agent = withoutAgent('failed', err.message)
    }
  }
  // Without settings it is unknown what to check.
  if (config instanceof Error) throw config
  return (await doctor()).examineMachine(config, agent)
}
