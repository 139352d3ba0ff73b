// `vxmesh cni ...`: installs the CNI plugin where container runtimes look for it. The binaries come first: a runtime that
// sees the new configuration must find them. Each file is written atomically.

import { mkdir, rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { Command } from 'commander'
import { VxmeshError } from '#model/errors.ts'
import { parseNetworkName } from '#model/ids.ts'
import { readIfExists, writeDurably } from '#platform/files.ts'
import { absolutePath, checked } from './arguments.ts'
import { render } from './output.ts'
import type { CommandContext } from './context.ts'

/** Built by scripts/build-cni. */
const PLUGIN = resolve(import.meta.dirname, '../../dist/vxmesh-cni')
/** A runtime looks for a file with the name of the configuration's type, `vxmesh`; people look for `vxmesh-cni`. */
const NAMES = ['vxmesh-cni', 'vxmesh']
/** Sorts before other common names: a runtime takes the first file. */
const CONFIG = '10-vxmesh.conflist'
/** A string that every build of the plugin contains, and no other program. */
const MARKER = 'application/vnd.vxmesh.cni'

type Directories = { readonly binDir: string; readonly confDir: string }

export function cniCommands(program: Command, { io, formatOf, socketOf }: CommandContext): void {
  const cni = program.command('cni').description('The CNI plugin, for Kubernetes and other container runtimes.')
  const withDirectories = (command: Command): Command =>
    command
      .option('--bin-dir <dir>', 'where the runtime looks for plugins', absolutePath('--bin-dir'), '/opt/cni/bin')
      .option('--conf-dir <dir>', 'where it looks for configurations', absolutePath('--conf-dir'), '/etc/cni/net.d')
  const print = (command: Command, files: readonly string[], done: string): void => {
    const format = formatOf(command)
    io.out(format === 'table' ? files.map(file => `${file} ${done}\n`).join('') : render(format, { files }))
  }

  withDirectories(cni.command('install'))
    .description('Install or update the plugin and its configuration on this host.')
    .option(
      '--network <name>',
      'network of all containers; default: by Kubernetes namespace',
      checked('--network', parseNetworkName)
    )
    .addHelpText(
      'after',
      '\nDebian’s container runtimes look in /usr/lib/cni.\nExample: vxmesh cni install --bin-dir /usr/lib/cni'
    )
    .action(async (o: Directories & { network?: string }, command: Command) => {
      print(command, await install(o, conflist(socketOf(command), o.network)), 'installed')
    })
  withDirectories(cni.command('uninstall'))
    .description('Remove the configuration and the plugin; attached containers stay attached.')
    .action(async (o: Directories, command: Command) => {
      print(command, await uninstall(o), 'removed')
    })
}

/** The runtime's plugin list. A runtime that knows `cniVersions` takes the highest version that both support. */
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

async function install({ binDir, confDir }: Directories, config: string): Promise<string[]> {
  const plugin = await readIfExists(PLUGIN)
  if (plugin === null) {
    throw new VxmeshError(
      'ERR_STORAGE',
      `${PLUGIN} is missing: build it with scripts/build-cni (scripts/setup.sh does so)`
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

async function uninstall({ binDir, confDir }: Directories): Promise<string[]> {
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

/** Refuses to replace or remove another program of the same name. @throws ERR_STORAGE */
async function requireOurs(file: string): Promise<void> {
  const found = await readIfExists(file)
  if (found === null || found.includes(MARKER)) return
  throw new VxmeshError('ERR_STORAGE', `${file} is another program and was left alone`)
}

async function makeDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: 0o755 })
  } catch (err) {
    throw new VxmeshError('ERR_STORAGE', `cannot create ${path}: ${String(err)}`, { cause: err })
  }
}
