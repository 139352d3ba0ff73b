// `vxmesh snapshot ...`: backups of the whole state, each in one file. Saving needs an agent; inspecting and restoring do
// not.

import type { Command } from 'commander'
import { loadConfig } from '#config/load.ts'
import { KEY_FACTS } from '#config/schema.ts'
import type { SnapshotView } from '#model/views.ts'
import { randomKey } from '#platform/random.ts'
import { replace } from '#platform/durable-file.ts'
import { diskFiles } from '#platform/file-layer.ts'
import { absolutePath } from './arguments.ts'
import { render } from './output.ts'
import type { CliIo, CommandContext } from './context.ts'
import { snapshotFacts } from './shapes.ts'

export function snapshotCommands(program: Command, { io, client, formatOf, backup }: CommandContext): void {
  const snapshot = program.command('snapshot').description('Backups of the whole state, each in one file.')
  const show = (command: Command, view: SnapshotView): void => {
    const output = formatOf(command)
    io.out(output === 'table' ? snapshotFacts(view) : render(output, view))
  }

  snapshot
    .command('save')
    .description('Save the state, with every acknowledged change, into a file. The file is written atomically.')
    .argument('<file>', 'the file; an existing one is replaced')
    .option('--stale', 'save the state that this host has, for when the servers have no majority')
    .addHelpText(
      'after',
      '\nThe file holds no keys, and only its owner can read it.\nExample: vxmesh snapshot save /backup/vxmesh.snap'
    )
    .action(async (file: string, o: { stale?: boolean }, command: Command) => {
      const bytes = await client(command).bytes(`/v1/snapshot${o.stale === true ? '?stale=true' : ''}`)
      const view = await (await backup()).inspectBackup(file, bytes)
      // Overlapping saves must not share a temporary file.
      await replace(diskFiles, file, { data: bytes, durable: true, suffix: `.${randomKey(6).toString('hex')}` })
      show(command, view)
    })

  snapshot
    .command('inspect')
    .description('Show the contents of a file and verify its integrity. Needs no agent.')
    .argument('<file>', 'a backup, or a file in a host’s DATA-DIR/snapshot')
    .addHelpText('after', '\nExample: vxmesh snapshot inspect /backup/vxmesh.snap')
    .action(async (file: string, _: unknown, command: Command) => {
      const { readBackup, inspectBackup } = await backup()
      show(command, await inspectBackup(file, await readBackup(file)))
    })

  snapshot
    .command('restore')
    .description('Place a backup in the empty data directory of one new server, for a new cluster. Needs no agent.')
    .argument('<file>', 'a backup')
    .option('--data-dir <dir>', 'the data directory', absolutePath('--data-dir'))
    .option('--config <file>', 'take the data directory from these settings (VXMESH_CONFIG)')
    .addHelpText(
      'after',
      '\nThen start the agents of exactly bootstrapExpect new servers: they found a' +
        '\ncluster with the networks and allocations of the backup. See docs/operations.md.' +
        '\nExample: vxmesh snapshot restore /backup/vxmesh.snap'
    )
    .action(async (file: string, o: { dataDir?: string; config?: string }, command: Command) => {
      const view = await (await backup()).restoreBackup({ file, dataDir: await dataDirOf(o, io) })
      show(command, view)
    })
}

/** The data directory in the same order of precedence as `vxmesh agent`: flag, variable, file, default. @throws ERR_CONFIG */
async function dataDirOf({ dataDir, config }: { dataDir?: string; config?: string }, io: CliIo): Promise<string> {
  const file = config ?? io.env['VXMESH_CONFIG']
  const given = dataDir ?? io.env['VXMESH_DATA_DIR']
  if (given !== undefined) return absolutePath('VXMESH_DATA_DIR')(given)
  if (file !== undefined) return (await loadConfig({ file, env: io.env, flags: {} })).dataDir
  return String(KEY_FACTS.find(({ key }) => key === 'dataDir')?.fallback)
}
