// `vxmesh network ...`

import type { Command } from 'commander'
import { parseNetworkName, VNI_MAX } from '#model/ids.ts'
import { parseIp, parseSubnet } from '#model/ip.ts'
import { NETWORK_SETTINGS } from '#model/settings.ts'
import type { NetworkView } from '#model/views.ts'
import { by, checked, onceAFamily, wholeNumber } from './arguments.ts'
import type { CommandContext, Show, ShowList } from './context.ts'
import { addChangeOptions, addSettingOptions, changesIn, settingsIn } from './setting-options.ts'
import { NETWORK_COLUMNS, networkFacts, networksTable } from './shapes.ts'

type CreateOptions = {
  subnet: readonly string[]
  gateway?: string
  vni?: number
}

const name = checked('NAME', parseNetworkName)

export function networkCommands(program: Command, { show, showList }: CommandContext): void {
  const network = program.command('network').description('Tenant networks: isolated layer-2 segments, one VNI each.')
  createCommand(network, show)
  listCommand(network, showList)
  showCommand(network, show)
  updateCommand(network, show)
  deleteCommand(network, show)
}

function createCommand(network: Command, show: Show): void {
  const create = network
    .command('create')
    .description('Create a network.')
    .argument('<name>', 'lower-case letters, digits and "-"', name)
    .requiredOption(
      '--subnet <cidr>',
      'subnet of its containers, or one of each family; several networks may use the same',
      onceAFamily('--subnet', (text, field) => parseSubnet(text, field).base)
    )
    .option('--gateway <ip>', 'default: the first address', checked('--gateway', parseIp))
    .option('--vni <n>', 'default: the next free one from 4096', by('--vni', wholeNumber(1, VNI_MAX)))
  addSettingOptions(create, NETWORK_SETTINGS)
    .addHelpText('after', '\nExample: vxmesh network create blue --subnet 10.1.0.0/16 --subnet fd00:1::/64')
    .action(async (name: string, o: CreateOptions, command: Command) => {
      const { gateway, vni } = o
      const [subnet, another] = o.subnet
      const subnets = another === undefined ? { subnet } : { subnets: o.subnet }
      const body = { name, ...subnets, gateway, vni, ...settingsIn(NETWORK_SETTINGS, o) }
      await show<NetworkView>(
        command,
        client => client.call('POST', '/v1/networks', body),
        (row, width) => networksTable([row], width)
      )
    })
}

function listCommand(network: Command, showList: ShowList): void {
  network
    .command('list')
    .description('List all networks.')
    .action(async (_: unknown, command: Command) => {
      await showList(command, '/v1/networks', NETWORK_COLUMNS)
    })
}

function showCommand(network: Command, show: Show): void {
  network
    .command('show')
    .description('Show one network.')
    .argument('<name>', 'its name', name)
    .action(async (name: string, _: unknown, command: Command) => {
      await show<NetworkView>(command, client => client.call('GET', `/v1/networks/${name}`), networkFacts)
    })
}

function updateCommand(network: Command, show: Show): void {
  const update = network
    .command('update')
    .description('Change settings of a network; 0 or none removes a limit.')
    .argument('<name>', 'its name', name)
    .option(
      '--add-subnet <cidr>',
      'a subnet of the family that it has none of: its containers get addresses in it',
      checked('--add-subnet', parseSubnet)
    )
  addChangeOptions(update, NETWORK_SETTINGS)
    .addHelpText('after', '\nExample: vxmesh network update blue --add-subnet fd00:1::/64')
    .action(async (name: string, o: Readonly<Record<string, unknown>>, command: Command) => {
      const changes = changesIn(NETWORK_SETTINGS, o, { addSubnet: '--add-subnet' })
      await show<NetworkView>(
        command,
        client => client.call('PATCH', `/v1/networks/${name}`, changes),
        (row, width) => networksTable([row], width)
      )
    })
}

function deleteCommand(network: Command, show: Show): void {
  network
    .command('delete')
    .description('Delete a network.')
    .argument('<name>', 'its name', name)
    .option('--force', 'also delete its endpoints: their containers lose the interface')
    .action(async (name: string, o: { force?: boolean }, command: Command) => {
      const path = `/v1/networks/${name}${o.force === true ? '?force=true' : ''}`
      await show<NetworkView>(
        command,
        client => client.call('DELETE', path),
        row => `network ${row.name} deleted\n`
      )
    })
}
