// `vxmesh agent` and `vxmesh keygen`: the commands that need no running agent.

import { Option, type Command } from 'commander'
import { generateClusterKey, readClusterKeys, type ClusterKeys } from '#config/cluster-key.ts'
import { CONFIG_KEYS, flagOf, loadConfig, type ConfigSources } from '#config/load.ts'
import { KEY_FACTS, type Config, type KeyFacts } from '#config/schema.ts'
import type { ExitCode } from '#model/errors.ts'
import type { CliIo } from './context.ts'

/** Runs the agent until it ends; resolves to its exit code. `readConfig` reads the current configuration again. */
export type RunAgent = (
  config: Config,
  keys: ClusterKeys | null,
  readConfig: () => Promise<Config>
) => Promise<ExitCode>

/** Keys that are flags of every command anyway. */
const SHARED: ReadonlySet<string> = new Set(['socket'])

export function agentCommand(
  program: Command,
  p: { readonly io: CliIo; readonly runAgent: RunAgent; readonly exit: (code: ExitCode) => void }
): void {
  program
    .command('keygen')
    .description('Print a new cluster key: one line for /etc/vxmesh/cluster.key of every host, mode 600.')
    .addHelpText('after', '\nExample: (umask 077; vxmesh keygen > /etc/vxmesh/cluster.key)')
    .action(() => p.io.out(`${generateClusterKey()}\n`))

  const agent = program
    .command('agent')
    .description('Run the agent of this host, as root.')
    .addHelpText(
      'after',
      '\nA setting comes from its flag, else its variable (VXMESH_DATA_DIR for' +
        '\n--data-dir), else the file, else its default. See docs/configuration.md.' +
        '\nExample: vxmesh agent --config /etc/vxmesh/vxmesh.yaml'
    )
  addSettings(agent)
  agent.action(async function (this: Command) {
    const sources = settingsOf(this, p.io)
    const config = await loadConfig(sources)
    const keys = config.insecure ? null : await readClusterKeys(config.clusterKeyFile)
    p.exit(await p.runAgent(config, keys, () => loadConfig(sources)))
  })
}

/** Adds a flag for each setting, and --config for their file. */
export function addSettings(command: Command): Command {
  command.option('--config <file>', 'YAML file of settings (VXMESH_CONFIG)')
  for (const facts of KEY_FACTS.filter(({ key }) => !SHARED.has(key))) command.addOption(optionOf(facts))
  return command
}

/** The sources of a command’s settings. */
export function settingsOf(command: Command, io: CliIo): ConfigSources {
  const options = command.optsWithGlobals<Record<string, string | string[] | true | undefined>>()
  const flags: Record<string, string | readonly string[]> = {}
  for (const key of CONFIG_KEYS) {
    const value = options[attributeOf(key)]
    // `--insecure` alone means true.
    if (value !== undefined) flags[key] = value === true ? 'true' : value
  }
  const file = options['config'] ?? io.env['VXMESH_CONFIG']
  return { file: typeof file === 'string' ? file : null, env: io.env, flags }
}

function optionOf({ key, accepts, description, fallback }: KeyFacts): Option {
  const flag = flagOf(key)
  if (key === 'insecure') return new Option(`${flag} [boolean]`, description)
  // Commander must not know the default: it would take precedence over variable and file.
  const facts = [
    ...(accepts.startsWith('one of ') ? [accepts] : []),
    ...(fallback === undefined || Array.isArray(fallback) ? [] : [`default: ${String(fallback)}`])
  ]
  const text = facts.length === 0 ? description : `${description} (${facts.join('; ')})`
  const option = new Option(`${flag} <value>`, text)
  return key === 'join'
    ? option.argParser((value, all: string[] | undefined) => [...(all ?? []), ...value.split(',')])
    : option
}

/** The name under which commander stores a flag's value. */
function attributeOf(key: string): string {
  return new Option(`${flagOf(key)} <value>`).attributeName()
}
