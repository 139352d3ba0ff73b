// `vxmesh config ...`: the settings as the agent of this host would have them, without one.

import type { Command } from 'commander'
import { readClusterKeys } from '#config/cluster-key.ts'
import { CONFIG_KEYS, loadConfigWithOrigins, type LoadedConfig } from '#config/load.ts'
import { readZmqKeys } from '#config/zmq-keys.ts'
import { formatIp } from '#model/ip.ts'
import { addSettings, settingsOf } from './agent-command.ts'
import { render, table } from './output.ts'
import type { CommandContext } from './context.ts'

export type SettingRow = { readonly key: string; readonly value: unknown; readonly origin: string }

/** A key in place of the path of its file. */
const SECRET = /^[A-Za-z0-9+/]{43}=$/

export function configCommands(program: Command, { io, formatOf }: CommandContext): void {
  const config = program.command('config').description('Settings of the agent, from flags, variables and the file.')

  addSettings(
    config
      .command('validate')
      .description('Validate the settings and the key files that they name, as `vxmesh agent` does.')
      .option('--no-key-files', 'validate the settings only')
      .addHelpText('after', '\nExample: vxmesh config validate --config /etc/vxmesh/vxmesh.yaml')
  ).action(async function (this: Command) {
    const { config } = await loadConfigWithOrigins(settingsOf(this, io))
    if (this.opts<{ keyFiles: boolean }>().keyFiles) {
      if (!config.insecure) await readClusterKeys(config.clusterKeyFile)
      await readZmqKeys(config.zmq)
    }
    const output = formatOf(this)
    io.out(output === 'table' ? 'the settings are valid\n' : render(output, { valid: true }))
  })

  addSettings(
    config
      .command('show')
      .description('Show every setting in effect; the YAML output is a file with the same settings.')
      .option('--origin', 'also show the origin of each: the default, FILE:LINE, a variable or a flag')
      .addHelpText('after', '\nExample: vxmesh config show --origin --config /etc/vxmesh/vxmesh.yaml')
  ).action(async function (this: Command) {
    const loaded = await loadConfigWithOrigins(settingsOf(this, io))
    const { origin } = this.opts<{ origin?: boolean }>()
    const rows = settingRows(loaded)
    const output = formatOf(this)
    if (output !== 'table') {
      io.out(render(output, origin === true ? rows : nested(rows)))
      return
    }
    const cells = [
      ['KEY', (row: SettingRow) => row.key],
      ['VALUE', (row: SettingRow) => plain(row.value)],
      ['ORIGIN', (row: SettingRow) => row.origin]
    ] as const
    io.out(table(origin === true ? cells : cells.slice(0, 2), rows, io.columns))
  })
}

/** Every setting in the schema's order; null if it is not set and has no default. */
export function settingRows({ config, origins }: LoadedConfig): SettingRow[] {
  const values = masked(config)
  return CONFIG_KEYS.map(key => {
    const value = key
      .split('.')
      .reduce((at: unknown, part) => (at as Record<string, unknown> | undefined)?.[part], values)
    return { key, value: value ?? null, origin: origins.get(key) ?? 'default' }
  })
}

/** The settings in sections, as in a file, in the schema's order. */
function nested(rows: readonly SettingRow[]): Record<string, unknown> {
  const root: Record<string, unknown> = {}
  for (const { key, value } of rows) {
    if (value === null) continue
    const sections = key.split('.')
    const last = sections.pop() ?? ''
    const at = sections.reduce((outer, name) => (outer[name] ??= {}) as Record<string, unknown>, root)
    at[last] = value
  }
  return root
}

/** The values as a file holds them, without anything that looks like a secret. */
function masked(config: LoadedConfig['config']): Record<string, unknown> {
  const outside = {
    ...config,
    bind: formatIp(config.bind),
    overlay: { ...config.overlay, vtep: formatIp(config.overlay.vtep) }
  }
  return JSON.parse(JSON.stringify(outside), (_, value: unknown) =>
    typeof value === 'string' && SECRET.test(value) ? '(hidden)' : value
  ) as Record<string, unknown>
}

function plain(value: unknown): string {
  if (Array.isArray(value)) return value.map(String).join(' ')
  return value === null ? '-' : typeof value === 'string' ? value : JSON.stringify(value)
}
