// `vxmesh events`: prints events as they happen, until it is interrupted.

import type { Command } from 'commander'
import { VxmeshError } from '#model/errors.ts'
import type { AgentEvent } from '#model/event.ts'
import { formatPort } from '#model/service.ts'
import { printable } from './output.ts'
import type { CommandContext } from './context.ts'

export function eventsCommand(program: Command, { io, client, formatOf }: CommandContext): void {
  program
    .command('events')
    .description('Show events as they happen: networks, endpoints, hosts, members, leadership. Ctrl-C ends it.')
    .option('--recent', 'first show the recent events that the agent remembers, at most 512')
    .addHelpText('after', '\nWith -o json: one object per line.\nExample: vxmesh events --recent -o json')
    .action(async ({ recent }: { recent?: boolean }, command: Command) => {
      const format = formatOf(command)
      if (format === 'yaml') throw new VxmeshError('ERR_USAGE', '--output: must be table or json for events')
      for await (const line of client(command).lines(`/v1/events?recent=${recent === true}`)) {
        io.out(format === 'json' ? `${line}\n` : `${describe(JSON.parse(line) as AgentEvent)}\n`)
      }
      throw new VxmeshError('ERR_AGENT_UNREACHABLE', 'the agent has ended the stream')
    })
}

/** One line of text: time of day, kind of event, subject. */
export function describe(event: AgentEvent): string {
  return printable(`${event.time.slice(11, 23)}  ${event.kind.padEnd(17)}  ${subject(event)}`)
}

function subject(event: AgentEvent): string {
  switch (event.kind) {
    case 'network-created':
    case 'network-updated':
    case 'network-deleted':
      return `${event.network.name}  VNI ${event.network.vni}  ${event.network.subnets.join(' ')}`
    case 'endpoint-attached':
    case 'endpoint-updated':
    case 'endpoint-detached': {
      const { containerId, ifname, network, addresses, host } = event.endpoint
      return `${containerId}/${ifname}  ${network}  ${addresses.join(' ')}  on ${host}`
    }
    case 'service-created':
    case 'service-updated':
    case 'service-deleted': {
      const { name, network, addresses, ports } = event.service
      const shown = addresses.length === 0 ? 'headless' : addresses.join(' ')
      return `${name}  ${network}  ${shown}  ${ports.map(formatPort).join(' ')}`
    }
    case 'policy-created':
    case 'policy-updated':
    case 'policy-deleted': {
      const { name, network, select, closes } = event.policy
      return `${name}  ${network}  ${select}  ${closes.length === 0 ? 'closes nothing' : `closes ${closes.join(' and ')}`}`
    }
    case 'host-registered':
    case 'host-removed':
      return `${event.host.name}  VTEP ${event.host.vtep}  ${event.host.role}`
    case 'namespace-mapped':
    case 'namespace-unmapped':
      return `${event.namespace.namespace}  ${[event.namespace.network, ...event.namespace.grants].join(' ')}`
    case 'member':
      return `${event.member.name}  ${event.member.status}  ${event.member.address}`
    case 'member-vanished':
      return event.name
    case 'raft':
      return `${event.role}, term ${event.term}, leader ${event.leader ?? 'unknown'}`
    case 'watching':
      return `from log index ${event.index} on`
  }
}
