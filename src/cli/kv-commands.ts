// `vxmesh kv ...`: the paper's key-value view of the state.

import type { Command } from 'commander'
import { VxmeshError } from '#model/errors.ts'
import { MAX_TEXT } from '#model/fields.ts'
import type { KvEntryView, KvPageView } from '#model/views.ts'
import { checked } from './arguments.ts'
import type { ApiClient } from './client.ts'
import type { CommandContext } from './context.ts'
import { kvFacts, kvTable } from './shapes.ts'

export function kvCommands(program: Command, { show }: CommandContext): void {
  const kv = program.command('kv').description('The state as keys and values, read-only.')
  const keys =
    '\nKeys: network/NAME, vlanStore (the VNIs), ipStore/NAME (a network’s addresses),' +
    '\nendpoint/NETWORK/CONTAINER-ID/IFNAME, host/NAME, namespace/NAME,' +
    '\nservice/NETWORK/NAME, policy/NETWORK/NAME.'

  kv.command('list')
    .description('List all keys, or those with a prefix, with their values.')
    .argument('[prefix]', 'prefix of the keys', checked('PREFIX', keyText))
    .addHelpText('after', `${keys}\nExample: vxmesh kv list endpoint/blue/`)
    .action(async (prefix: string | undefined, _: unknown, command: Command) => {
      await show(command, client => allPages(client, prefix ?? ''), kvTable)
    })

  kv.command('get')
    .description('Show the value of one key.')
    .argument('<key>', 'the key', checked('KEY', keyText))
    .addHelpText(
      'after',
      `${keys}\nA bit vector shows its 4096 lowest runs of allocated values.\nExample: vxmesh kv get vlanStore`
    )
    .action(async (key: string, _: unknown, command: Command) => {
      const path = key.split('/').map(encodeURIComponent).join('/')
      await show(command, client => client.call('GET', `/v1/kv/${path}`), kvFacts)
    })
}

/** Pages are read at different moments: only keys that are created or deleted meanwhile may be missed. */
async function allPages(client: ApiClient, prefix: string): Promise<KvEntryView[]> {
  const entries: KvEntryView[] = []
  for (let after: string | null = ''; after !== null;) {
    const query = new URLSearchParams({ prefix, after, limit: '1000' })
    const page = (await client.call('GET', `/v1/kv?${query.toString()}`)) as KvPageView
    for (const entry of page.entries) entries.push(entry)
    after = page.next
  }
  return entries
}

function keyText(text: string, field: string): void {
  if (/^[\x21-\x7e]*$/.test(text) && text.length <= MAX_TEXT) return
  const what = `at most ${MAX_TEXT} printable ASCII characters, without spaces`
  throw new VxmeshError('ERR_USAGE', `${field}: must be ${what}`, { field })
}
