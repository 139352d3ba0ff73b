// `vxmesh namespace ...`: maps Kubernetes namespaces to networks.

import type { Command } from 'commander'
import { parseNamespaceName, parseNetworkName } from '#model/ids.ts'
import type { NamespaceView } from '#model/views.ts'
import { checked } from './arguments.ts'
import type { CommandContext } from './context.ts'
import { NAMESPACE_COLUMNS, namespacesTable } from './shapes.ts'

export function namespaceCommands(program: Command, { show, showList }: CommandContext): void {
  const namespace = program.command('namespace').description('Kubernetes namespaces and the networks of their pods.')
  const name = checked('NS', parseNamespaceName)
  const grant = checked('--grant', parseNetworkName)

  namespace
    .command('map')
    .description('Map a namespace to the network of its pods; replaces an earlier mapping.')
    .argument('<ns>', 'the namespace', name)
    .argument('<network>', 'the network of its pods', checked('NETWORK', parseNetworkName))
    .option(
      '--grant <network>',
      'another network that a pod may choose (annotation vxmesh.io/network); repeatable',
      (text: string, all: string[]) => [...all, grant(text)],
      []
    )
    .addHelpText('after', '\nExample: vxmesh namespace map shop blue --grant green')
    .action(async (ns: string, network: string, o: { grant: string[] }, command: Command) => {
      const body = { network, grants: o.grant }
      await show<NamespaceView>(
        command,
        client => client.call('PUT', `/v1/namespaces/${ns}`, body),
        (row, width) => namespacesTable([row], width)
      )
    })

  namespace
    .command('unmap')
    .description('Remove the mapping of a namespace; its running pods and its network stay.')
    .argument('<ns>', 'the namespace', name)
    .action(async (ns: string, _: unknown, command: Command) => {
      await show<NamespaceView>(
        command,
        client => client.call('DELETE', `/v1/namespaces/${ns}`),
        row => `namespace ${row.namespace} unmapped\n`
      )
    })

  namespace
    .command('list')
    .description('List the mapped namespaces.')
    .action(async (_: unknown, command: Command) => {
      await showList(command, '/v1/namespaces', NAMESPACE_COLUMNS)
    })
}
