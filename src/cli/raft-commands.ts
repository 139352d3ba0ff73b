// `vxmesh raft ...`

import type { Command } from 'commander'
import { parseHostName } from '#model/ids.ts'
import { checked } from './arguments.ts'
import type { CommandContext } from './context.ts'
import { raftPeersTable } from './shapes.ts'

/** Verb, HTTP method, path, description. */
const CHANGES = [
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

export function raftCommands(program: Command, { show }: CommandContext): void {
  const raft = program.command('raft').description('Raft servers and leadership.')
  raft
    .command('peers')
    .description('List the servers with the log index that each has replicated.')
    .action(async (_: unknown, command: Command) => {
      await show(command, client => client.call('GET', '/v1/raft/peers'), raftPeersTable)
    })
  const name = checked('NAME', parseHostName)
  for (const [verb, method, path, description] of CHANGES) {
    raft
      .command(verb)
      .description(description)
      .argument('<name>', 'the host’s name', name)
      .action(async (name: string, _: unknown, command: Command) => {
        await show(command, client => client.call(method, `${path}${name}`), raftPeersTable)
      })
  }
}
