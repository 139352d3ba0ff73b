// `vxmesh cni ...`: the plugin to where container runtimes look for it. The binary first, its configuration last: a runtime
// that watches for the latter finds the former. Each appears whole or not at all.

import { mkdir, rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { Command } from 'commander'
import { VxmeshError } from '#model/errors.ts'
import { parseNetworkName } from '#model/ids.ts'
import { readIfExists, writeDurably } from '#platform/files.ts'
import { absolutePath, checked } from './arguments.ts'
import { render } from './output.ts'
import type { CommandContext } from './context.ts'

/** Made by scripts/build-cni. */
const PLUGIN = resolve(import.meta.dirname, '../../dist/vxmesh-cni')
/** A runtime looks for a file named like the configuration's type; people look for the other name. */
const NAMES = ['vxmesh-cni', 'vxmesh']
/** Lexically before the others that are usual: a runtime takes the first. */
const CONFIG = '10-vxmesh.conflist'
/** In every build of the plugin, and in nothing else. */
const MARK = 'application/vnd.vxmesh.cni'

type Places = { readonly binDir: string; readonly confDir: string }

export function cniCommands(program: Command, { io, formatOf, socketOf }: CommandContext): void {
  const cni = program.command('cni').description('The CNI plugin, for Kubernetes and other container runtimes.')
  const places = (command: Command): Command =>
    command
      .option('--bin-dir <dir>', 'where the runtime looks for plugins', absolutePath('--bin-dir'), '/opt/cni/bin')
      .option('--conf-dir <dir>', 'where it looks for configurations', absolutePath('--conf-dir'), '/etc/cni/net.d')
  const tell = (command: Command, files: readonly string[], done: string): void => {
    const format = formatOf(command)
    io.out(format === 'table' ? files.map(file => `${file} ${done}\n`).join('') : render(format, { files }))
  }

  places(cni.command('install'))
    .description('Install the plugin and its configuration on this host, or bring them up to date.')
    .option(
      '--network <name>',
      'the network of all containers; default: by namespace',
      checked('--network', parseNetworkName)
    )
    .addHelpText(
      'after',
      '\nDebian’s packages look in /usr/lib/cni.\nExample: vxmesh cni install --bin-dir /usr/lib/cni'
    )
    .action(async (o: Places & { network?: string }, command: Command) => {
      tell(command, await install(o, conflist(socketOf(command), o.network)), 'installed')
    })
  places(cni.command('uninstall'))
    .description('Remove the configuration and the plugin; attached containers stay attached.')
    .action(async (o: Places, command: Command) => {
      tell(command, await uninstall(o), 'removed')
    })
}

/** The list of plugins for the runtime. A runtime that knows `cniVersions` takes the highest that both know. */
function conflist(socket: string, network: string | undefined): string {
  const list = {
    cniVersion: '1.0.0',
    cniVersions: ['0.3.1', '0.4.0', '1.0.0', '1.1.0'],
    name: 'vxmesh',
    plugins: [
      {
        type: 'vxmesh',
        socket,
        ...(network === undefined ? {} : { network }),
        capabilities: { bandwidth: true, ips: true, mac: true, 'io.kubernetes.cri.pod-annotations': true }
      }
    ]
  }
  return `${JSON.stringify(list, null, 2)}\n`
}

async function install({ binDir, confDir }: Places, config: string): Promise<string[]> {
  const plugin = await readIfExists(PLUGIN)
  if (plugin === null) {
    throw new VxmeshError(
      'ERR_STORAGE',
      `${PLUGIN} is missing: scripts/build-cni makes it, and scripts/setup.sh calls that`
    )
  }
  const binaries = NAMES.map(name => join(binDir, name))
  for (const file of binaries) await requireOurs(file)
  for (const dir of [binDir, confDir]) await makeDirectory(dir)
  for (const file of binaries) await writeDurably(file, plugin, 0o755)
  const file = join(confDir, CONFIG)
  await writeDurably(file, config, 0o644)
  return [...binaries, file]
}

async function uninstall({ binDir, confDir }: Places): Promise<string[]> {
  const removed: string[] = []
  const binaries = NAMES.map(name => join(binDir, name))
  for (const file of binaries) await requireOurs(file)
  for (const file of [join(confDir, CONFIG), ...binaries]) {
    if ((await readIfExists(file)) === null) continue
    await rm(file, { force: true })
    removed.push(file)
  }
  return removed
}

/** Another program of the same name is not ours to replace or remove. @throws ERR_STORAGE */
async function requireOurs(file: string): Promise<void> {
  const found = await readIfExists(file)
  if (found === null || found.includes(MARK)) return
  throw new VxmeshError('ERR_STORAGE', `${file} is another program: it is left alone`)
}

async function makeDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: 0o755 })
  } catch (err) {
    throw new VxmeshError('ERR_STORAGE', `cannot create ${path}: ${String(err)}`, { cause: err })
  }
}
