// `vxmesh join`, `leave`, `reload`, `members`, `status`

import type { Command } from 'commander'
import { parseJoinAddress } from '#model/join-address.ts'
import { by } from './arguments.ts'
import type { CommandContext } from './context.ts'
import { MEMBER_COLUMNS, reloadFacts, statusFacts } from './shapes.ts'

export function clusterCommands(program: Command, { show, showList }: CommandContext): void {
  const address = by('ADDRESS', parseJoinAddress)
  program
    .command('join')
    .description('Join the mesh of other hosts.')
    .argument(
      '<address...>',
      'Serf addresses of other hosts, ADDRESS or ADDRESS:PORT (IPv6: [ADDRESS]:PORT)',
      (text, all: string[] | undefined) => [...(all ?? []), address(text)]
    )
    .addHelpText('after', '\nExample: vxmesh join 192.0.2.1')
    .action(async (addresses: string[], _: unknown, command: Command) => {
      const ask = { addresses }
      await show<{ joined: number }>(
        command,
        client => client.call('POST', '/v1/join', ask),
        ({ joined }) => `joined through ${joined} ${joined === 1 ? 'host' : 'hosts'}\n`
      )
    })

  program
    .command('leave')
    .description('Leave the mesh and stop the agent. Other hosts send no traffic to its containers until it is back.')
    .action(async (_: unknown, command: Command) => {
      await show(
        command,
        client => client.call('POST', '/v1/leave'),
        () => 'left\n'
      )
    })

  program
    .command('reload')
    .description('Make the agent read its configuration again; prints what has changed and what needs a restart.')
    .action(async (_: unknown, command: Command) => {
      await show(command, client => client.call('POST', '/v1/reload'), reloadFacts)
    })

  program
    .command('members')
    .description('List the hosts that Serf knows.')
    .action(async (_: unknown, command: Command) => {
      await showList(command, '/v1/members', MEMBER_COLUMNS)
    })

  program
    .command('status')
    .description('Show the status of this host, problems first.')
    .action(async (_: unknown, command: Command) => {
      await show(command, client => client.call('GET', '/v1/status'), statusFacts)
    })
}
