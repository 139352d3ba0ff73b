// `vxmesh network ...`

import type { Command } from 'commander'
import { parseNetworkName } from '#model/ids.ts'
import { parseIpv4, parseSubnet } from '#model/ipv4.ts'
import { MTU_MAX, MTU_MIN } from '#model/network.ts'
import { parseRate } from '#model/quantity.ts'
import { VNI_MAX } from '#model/ids.ts'
import type { NetworkView } from '#model/views.ts'
import { by, checked, wholeNumber } from './arguments.ts'
import type { CommandContext } from './context.ts'
import { networksTable } from './shapes.ts'

type CreateOptions = {
  subnet: string
  gateway?: string
  vni?: number
  egressRate?: string
  mtu?: number
  egress: boolean
  hostAccess?: boolean
}

export function networkCommands(program: Command, { show }: CommandContext): void {
  const network = program.command('network').description('Tenant networks: isolated layer-2 segments, one VNI each.')
  const name = checked('NAME', parseNetworkName)

  network
    .command('create')
    .description('Create a network.')
    .argument('<name>', 'lower-case letters, digits and "-"', name)
    .requiredOption(
      '--subnet <cidr>',
      'addresses of its containers; two networks may have the same',
      checked('--subnet', parseSubnet)
    )
    .option('--gateway <ip>', 'default: the first address', checked('--gateway', parseIpv4))
    .option('--vni <n>', 'default: the next free one from 4096', by('--vni', wholeNumber(1, VNI_MAX)))
    .option(
      '--egress-rate <rate>',
      'limit of the traffic to the outside, as 100mbit',
      checked('--egress-rate', parseRate)
    )
    .option('--mtu <bytes>', 'default: what the underlay leaves', by('--mtu', wholeNumber(MTU_MIN, MTU_MAX)))
    .option('--no-egress', 'no way to the outside')
    .option('--host-access', 'a host may reach its own endpoints (kubelet probes)')
    .addHelpText('after', '\nExample: vxmesh network create blue --subnet 10.1.0.0/16')
    .action(async (name: string, o: CreateOptions, command: Command) => {
      const { subnet, gateway, vni, egressRate, mtu, egress, hostAccess } = o
      const body = { name, subnet, gateway, vni, egressRate, mtu, egress, hostAccess }
      await show<NetworkView>(
        command,
        client => client.call('POST', '/v1/networks', body),
        (row, width) => networksTable([row], width)
      )
    })

  network
    .command('list')
    .description('List all networks.')
    .action(async (_: unknown, command: Command) => {
      await show(command, client => client.call('GET', '/v1/networks'), networksTable)
    })

  network
    .command('show')
    .description('Show one network.')
    .argument('<name>', 'its name', name)
    .action(async (name: string, _: unknown, command: Command) => {
      await show<NetworkView>(
        command,
        client => client.call('GET', `/v1/networks/${name}`),
        (row, width) => networksTable([row], width)
      )
    })

  network
    .command('update')
    .description('Change a network.')
    .argument('<name>', 'its name', name)
    .requiredOption(
      '--egress-rate <rate>',
      'limit of the traffic to the outside; 0 for none',
      checked('--egress-rate', parseRate)
    )
    .action(async (name: string, body: { egressRate: string }, command: Command) => {
      const change = { egressRate: body.egressRate }
      await show<NetworkView>(
        command,
        client => client.call('PATCH', `/v1/networks/${name}`, change),
        (row, width) => networksTable([row], width)
      )
    })

  network
    .command('delete')
    .description('Delete a network.')
    .argument('<name>', 'its name', name)
    .option('--force', 'with its endpoints: their containers lose the interface')
    .action(async (name: string, o: { force?: boolean }, command: Command) => {
      const path = `/v1/networks/${name}${o.force === true ? '?force=true' : ''}`
      await show<NetworkView>(
        command,
        client => client.call('DELETE', path),
        row => `network ${row.name} deleted\n`
      )
    })
}
