// `vxmesh join`, `leave`, `members`, `status`, `host ...`, `raft ...`

import type { Command } from 'commander'
import { parseHostName } from '#model/ids.ts'
import { parseJoinAddress } from '#model/join-address.ts'
import type { HostView } from '#model/views.ts'
import { by, checked } from './arguments.ts'
import type { CommandContext } from './context.ts'
import { hostsTable, membersTable, raftPeersTable, reloadFacts, statusFacts } from './shapes.ts'

export function clusterCommands(program: Command, { show }: CommandContext): void {
  const address = by('ADDRESS', parseJoinAddress)
  program
    .command('join')
    .description('Join the mesh of other hosts.')
    .argument(
      '<address...>',
      'Serf addresses of other hosts, ADDRESS or ADDRESS:PORT',
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
      await show(command, client => client.call('GET', '/v1/members'), membersTable)
    })

  program
    .command('status')
    .description('Show the status of this host, problems first.')
    .action(async (_: unknown, command: Command) => {
      await show(command, client => client.call('GET', '/v1/status'), statusFacts)
    })

  const host = program.command('host').description('Hosts of the committed state.')
  const name = checked('NAME', parseHostName)
  host
    .command('list')
    .description('List all hosts.')
    .action(async (_: unknown, command: Command) => {
      await show(command, client => client.call('GET', '/v1/hosts'), hostsTable)
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

  const raft = program.command('raft').description('Raft servers and leadership.')
  raft
    .command('peers')
    .description('List the servers with the log index that each has replicated.')
    .action(async (_: unknown, command: Command) => {
      await show(command, client => client.call('GET', '/v1/raft/peers'), raftPeersTable)
    })
  const changes = [
    [
      'add',
      'PUT',
      '/v1/raft/peers/',
      'Make a host a voter, after it has caught up. Its agent must run with role: server.'
    ],
    ['remove', 'DELETE', '/v1/raft/peers/', 'Make a voter a client again, even if its host is gone for good.'],
    [
      'transfer',
      'PUT',
      '/v1/raft/leader/',
      'Transfer leadership to another server, for example before maintenance of the leader.'
    ]
  ] as const
  for (const [verb, method, path, description] of changes) {
    raft
      .command(verb)
      .description(description)
      .argument('<name>', 'the host’s name', name)
      .action(async (name: string, _: unknown, command: Command) => {
        await show(command, client => client.call(method, `${path}${name}`), raftPeersTable)
      })
  }
}
