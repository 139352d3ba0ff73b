// `vxmesh service ...`

import type { Command } from 'commander'
import { VxmeshError } from '#model/errors.ts'
import { parseNetworkName, parseServiceName } from '#model/ids.ts'
import { parseIp } from '#model/ip.ts'
import { parseSelectorTerm } from '#model/labels.ts'
import { MAX_AFFINITY_SECONDS, parseBackendText, parsePortText } from '#model/service.ts'
import type { ServiceView, StatusView } from '#model/views.ts'
import { by, checked, onceAFamily, repeated, wholeNumber } from './arguments.ts'
import type { CommandContext, Show, ShowList } from './context.ts'
import { SERVICE_COLUMNS, serviceFacts } from './shapes.ts'

type Changes = {
  port?: readonly string[]
  select?: readonly string[]
  backend?: readonly string[]
  affinity?: number
}
type CreateOptions = Changes & { network: string; ip?: readonly string[]; headless?: true }

const name = checked('NAME', parseServiceName)

export function serviceCommands(program: Command, context: CommandContext): void {
  const { show, showList } = context
  const service = program
    .command('service')
    .description('Services: addresses of a network that spread connections over its endpoints.')
  createCommand(service, context)
  updateCommand(service, show)
  listCommand(service, showList)
  showCommand(service, context)
  deleteCommand(service, show)
}

function createCommand(service: Command, context: CommandContext): void {
  const create = inNetwork(service.command('create').description('Create a service. Only on a server.'))
    .option(
      '--ip <address>',
      'its address, or one of each family, also outside of the network; default: the next free one of each family',
      onceAFamily('--ip', parseIp)
    )
    .option('--headless', 'without an address: known by its name alone')
  addTarget(create)
    .addHelpText('after', '\nExample: vxmesh service create web --network blue --port 80:8080 --select app=web')
    .action(async (name: string, o: CreateOptions, command: Command) => {
      if ((o.select === undefined) === (o.backend === undefined))
        throw new VxmeshError('ERR_USAGE', 'give either --select or --backend')
      const { network, ip: addresses, headless, port: ports } = o
      const body = { network, name, addresses, headless, ports, ...targetIn(o) }
      await showHere(command, context, client => client.call('POST', '/v1/services', body))
    })
}

function updateCommand(service: Command, show: Show): void {
  const update = inNetwork(
    service.command('update').description('Change a service while it is in use. Only on a server.')
  )
  addTarget(update)
    .addHelpText('after', '\nExample: vxmesh service update web --network blue --select app=web --select tier=front')
    .action(async (name: string, o: Changes & { network: string }, command: Command) => {
      const changes = { ports: o.port, ...targetIn(o) }
      if (Object.values(changes).every(value => value === undefined))
        throw new VxmeshError('ERR_USAGE', 'give at least one of --port, --select, --backend, --affinity')
      await show<ServiceView>(command, client => client.call('PATCH', pathOf(o, name), changes), serviceFacts)
    })
}

function listCommand(service: Command, showList: ShowList): void {
  service
    .command('list')
    .description('List the services.')
    .option('--network <name>', 'only services of this network', checked('--network', parseNetworkName))
    .action(async (o: { network?: string }, command: Command) => {
      const path = o.network === undefined ? '/v1/services' : `/v1/services?network=${o.network}`
      await showList(command, path, SERVICE_COLUMNS)
    })
}

function showCommand(service: Command, context: CommandContext): void {
  inNetwork(service.command('show').description('Show one service.')).action(
    async (name: string, o: { network: string }, command: Command) => {
      await showHere(command, context, client => client.call('GET', pathOf(o, name)))
    }
  )
}

/** As a table also, that the addresses of services lead nowhere from the containers of the host that is asked. */
async function showHere(
  command: Command,
  { show, client, formatOf, io }: CommandContext,
  ask: Parameters<Show>[1]
): Promise<void> {
  const { addresses } = await show<ServiceView>(command, ask, serviceFacts)
  if (formatOf(command) !== 'table' || addresses.length === 0) return
  const { host, overlay } = (await client(command).call('GET', '/v1/status')) as StatusView
  if (overlay.noServices !== null) io.out(`note       not reached on ${host}: ${overlay.noServices}\n`)
}

function deleteCommand(service: Command, show: Show): void {
  inNetwork(service.command('delete').description('Delete a service, and free its address. Only on a server.')).action(
    async (name: string, o: { network: string }, command: Command) => {
      await show<ServiceView>(
        command,
        client => client.call('DELETE', pathOf(o, name)),
        row => `service ${row.name} of network ${row.network} deleted\n`
      )
    }
  )
}

function inNetwork(command: Command): Command {
  return command
    .argument('<name>', 'its name in the network', name)
    .requiredOption('--network <name>', 'its network', checked('--network', parseNetworkName))
}

/** What an update may change. */
function addTarget(command: Command): Command {
  return command
    .option(
      '--port <port>',
      'PORT[:TARGET][/tcp|udp|sctp], TARGET being that of the backends; may be repeated',
      repeated('--port', parsePortText)
    )
    .option(
      '--select <selector>',
      'endpoints with this label, KEY=VALUE, or any of this KEY; repeated: with all of them',
      repeated('--select', parseSelectorTerm)
    )
    .option(
      '--backend <address>',
      'or the endpoint with this address, ADDRESS[:PORT]; may be repeated',
      repeated('--backend', parseBackendText)
    )
    .option(
      '--affinity <seconds>',
      'how long a client keeps its backend; 0: as long as a connection lasts',
      by('--affinity', wholeNumber(0, MAX_AFFINITY_SECONDS))
    )
}

/** The given ones under their names in the API; undefined where one is absent. */
function targetIn({
  select,
  backend: backends,
  affinity: affinitySeconds
}: Changes): Readonly<Record<string, unknown>> {
  if (select !== undefined && backends !== undefined)
    throw new VxmeshError('ERR_USAGE', 'give either --select or --backend')
  return { select, backends, affinitySeconds }
}

function pathOf({ network }: { readonly network: string }, name: string): string {
  return `/v1/services/${network}/${name}`
}
