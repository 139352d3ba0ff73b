// `vxmesh endpoint ...`

import type { Command } from 'commander'
import { VxmeshError } from '#model/errors.ts'
import { parseContainerId, parseIfName, parseNetworkName } from '#model/ids.ts'
import { parseIp } from '#model/ip.ts'
import { checkKey, labelsOfPairs, parseLabelPair, parseSelectorTerm, type Labels } from '#model/labels.ts'
import { parseMac } from '#model/mac.ts'
import { ENDPOINT_SETTINGS } from '#model/settings.ts'
import type { EndpointView } from '#model/views.ts'
import { by, checked, displayName, netnsPath, onceAFamily, pairs, repeated, wholeNumber } from './arguments.ts'
import type { CommandContext, Show, ShowList } from './context.ts'
import { addChangeOptions, addSettingOptions, changesIn, settingsIn } from './setting-options.ts'
import { ENDPOINT_COLUMNS, endpointFacts } from './shapes.ts'

const PID_MAX = 4_194_304

type AttachOptions = {
  network: string
  netns?: string
  pid?: number
  containerId: string
  name?: string
  ifname: string
  ip?: readonly string[]
  mac?: string
  label?: Labels
}

type UpdateOptions = {
  ifname: string
  label?: Labels
  unlabel?: readonly string[]
}

const containerId = checked('--container-id', parseContainerId)
const ifname = checked('--ifname', parseIfName)
const label = pairs('--label', parseLabelPair)

export function endpointCommands(program: Command, { show, showList }: CommandContext): void {
  const endpoint = program.command('endpoint').description('Endpoints: containers’ attachments to networks.')
  attachCommand(endpoint, show)
  updateCommand(endpoint, show)
  detachCommand(endpoint, show)
  listCommand(endpoint, showList)
  showCommand(endpoint, show)
}

function attachCommand(endpoint: Command, show: Show): void {
  const attach = endpoint
    .command('attach')
    .description('Attach a container of this host to a network; idempotent.')
    .requiredOption('--network <name>', 'the network', checked('--network', parseNetworkName))
    .requiredOption('--container-id <id>', 'the container’s id', containerId)
    .option('--netns <path>', 'its network namespace: a path, or a name of ip netns', netnsPath)
    .option('--pid <pid>', 'or a process in the namespace', by('--pid', wholeNumber(1, PID_MAX)))
    .option('--name <text>', 'a display name', by('--name', displayName))
    .option('--ifname <name>', 'interface name in the container', ifname, 'eth0')
    .option(
      '--ip <address>',
      'an address, or one of each family; default: the next free one',
      onceAFamily('--ip', parseIp)
    )
    .option('--mac <mac>', 'default: derived from the address', checked('--mac', parseMac))
    .option('--label <key=value>', 'a label; may be repeated', label)
  addSettingOptions(attach, ENDPOINT_SETTINGS)
    .addHelpText(
      'after',
      '\nExample: vxmesh endpoint attach --network blue --netns web1 --container-id web1 --label app=web'
    )
    .action(async (o: AttachOptions, command: Command) => {
      if ((o.netns === undefined) === (o.pid === undefined)) {
        throw new VxmeshError('ERR_USAGE', 'give either --netns or --pid')
      }
      const { network, containerId, netns, pid, name, ifname, ip = [], mac, label: labels } = o
      const [address, another] = ip
      const addresses = another === undefined ? { address } : { addresses: ip }
      const settings = settingsIn(ENDPOINT_SETTINGS, o)
      const body = { network, containerId, netns, pid, name, ifname, ...addresses, mac, ...settings, labels }
      await show<EndpointView>(
        command,
        client => client.call('POST', '/v1/endpoints', body),
        row => endpointFacts([row])
      )
    })
}

function updateCommand(endpoint: Command, show: Show): void {
  const update = endpoint
    .command('update')
    .description('Change labels, rates and delay of an endpoint while it is in use; 0 or none removes a limit.')
    .argument('<container-id>', 'the container’s id', checked('CONTAINER-ID', parseContainerId))
    .option('--ifname <name>', 'interface name in the container', ifname, 'eth0')
    .option('--label <key=value>', 'a label to add, or to give another value; may be repeated', label)
    .option('--unlabel <key>', 'a label to remove; may be repeated', repeated('--unlabel', checkKey))
  addChangeOptions(update, ENDPOINT_SETTINGS)
    .addHelpText('after', '\nExample: vxmesh endpoint update web1 --ingress-rate 10mbit --egress-rate none')
    .action(async (id: string, o: UpdateOptions, command: Command) => {
      const others = { labels: '--label', unlabel: '--unlabel' }
      const { unlabel: _, ...changes } = changesIn(ENDPOINT_SETTINGS, { ...o, labels: labelChanges(o) }, others)
      const path = `/v1/endpoints/${id}?ifname=${encodeURIComponent(o.ifname)}`
      await show<EndpointView>(
        command,
        client => client.call('PATCH', path, changes),
        row => endpointFacts([row])
      )
    })
}

function detachCommand(endpoint: Command, show: Show): void {
  endpoint
    .command('detach')
    .description('Remove the interface and release its address; works even if the container is gone.')
    .requiredOption('--container-id <id>', 'the container’s id', containerId)
    .option('--ifname <name>', 'interface name in the container', ifname, 'eth0')
    .action(async (o: { containerId: string; ifname: string }, command: Command) => {
      const path = `/v1/endpoints/${o.containerId}?ifname=${encodeURIComponent(o.ifname)}`
      await show<EndpointView>(
        command,
        client => client.call('DELETE', path),
        row => `${row.addresses.join(' and ')} released\n`
      )
    })
}

function listCommand(endpoint: Command, showList: ShowList): void {
  endpoint
    .command('list')
    .description('List the endpoints of all hosts.')
    .option('--network <name>', 'only endpoints of this network', checked('--network', parseNetworkName))
    .option(
      '--label <selector>',
      'only endpoints with this label, KEY=VALUE, or any of this KEY; repeated: with all of them',
      repeated('--label', parseSelectorTerm)
    )
    .action(async (o: { network?: string; label?: readonly string[] }, command: Command) => {
      const query = new URLSearchParams(o.network === undefined ? {} : { network: o.network })
      for (const text of o.label ?? []) query.append('label', text)
      await showList(
        command,
        query.size === 0 ? '/v1/endpoints' : `/v1/endpoints?${query.toString()}`,
        ENDPOINT_COLUMNS
      )
    })
}

function showCommand(endpoint: Command, show: Show): void {
  endpoint
    .command('show')
    .description('Show the endpoints of a container. With -o json: one object, or a list if there are several.')
    .argument('<container-id>', 'the container’s id', checked('CONTAINER-ID', parseContainerId))
    .option('--ifname <name>', 'only this interface', ifname)
    .action(async (id: string, o: { ifname?: string }, command: Command) => {
      const query = o.ifname === undefined ? '' : `?ifname=${encodeURIComponent(o.ifname)}`
      const ask = async (client: { call: (m: 'GET', p: string) => Promise<unknown> }): Promise<unknown> => {
        const rows = (await client.call('GET', `/v1/endpoints/${id}${query}`)) as EndpointView[]
        return rows.length === 1 ? rows[0] : rows
      }
      await show<EndpointView | EndpointView[]>(command, ask, answer => endpointFacts([answer].flat()))
    })
}

/** As PATCH takes them: null removes a label; undefined when none is given. @throws ERR_USAGE for a key that is given twice */
function labelChanges({ label, unlabel }: UpdateOptions): Readonly<Record<string, string | null>> | undefined {
  if (label === undefined && unlabel === undefined) return undefined
  const removed = (unlabel ?? []).map(key => [key, null] as const)
  return by('--unlabel', (_, field) => labelsOfPairs([...Object.entries(label ?? {}), ...removed], field))('')
}
