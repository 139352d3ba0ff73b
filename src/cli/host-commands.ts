// `vxmesh host ...`

import type { Command } from 'commander'
import { parseHostName } from '#model/ids.ts'
import type { HostView } from '#model/views.ts'
import { checked } from './arguments.ts'
import type { CommandContext } from './context.ts'
import { HOST_COLUMNS, hostsTable } from './shapes.ts'

export function hostCommands(program: Command, { show, showList }: CommandContext): void {
  const host = program.command('host').description('Hosts of the committed state.')
  const name = checked('NAME', parseHostName)
  host
    .command('list')
    .description('List all hosts.')
    .action(async (_: unknown, command: Command) => {
      await showList(command, '/v1/hosts', HOST_COLUMNS)
    })
  host
    .command('show')
    .description('Show one host.')
    .argument('<name>', 'its name', name)
    .action(async (name: string, _: unknown, command: Command) => {
      await show<HostView>(
        command,
        client => client.call('GET', `/v1/hosts/${name}`),
        (row, width) => hostsTable([row], width)
      )
    })
  host
    .command('remove')
    .description('Remove a host that will not come back, and release its endpoints and addresses.')
    .argument('<name>', 'its name', name)
    .action(async (name: string, _: unknown, command: Command) => {
      await show<HostView>(
        command,
        client => client.call('DELETE', `/v1/hosts/${name}`),
        row => `host ${row.name} removed, ${row.endpoints} endpoints released\n`
      )
    })
}
