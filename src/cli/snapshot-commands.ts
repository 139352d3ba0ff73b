// `vxmesh snapshot ...`: a backup of the whole state in one file. Saving asks the agent; looking into a file and restoring
// it need none.

import { rename } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import type { Command } from 'commander'
import { loadConfig } from '#config/load.ts'
import { KEY_FACTS } from '#config/schema.ts'
import type { SnapshotView } from '#model/views.ts'
import { randomKey } from '#platform/random.ts'
import { removeFile, storageError, syncDirectory, writeDurably } from '#platform/files.ts'
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
    .description('Save everything that is acknowledged by now into a file, which appears whole or not at all.')
    .argument('<file>', 'where to; what is there is replaced')
    .option('--stale', 'what this host has, when no majority of the servers can be asked')
    .addHelpText(
      'after',
      '\nThe file holds no keys, and is readable by its owner alone.\nExample: vxmesh snapshot save /backup/vxmesh.snap'
    )
    .action(async (file: string, o: { stale?: boolean }, command: Command) => {
      const bytes = await client(command).bytes(`/v1/snapshot${o.stale === true ? '?stale=true' : ''}`)
      const view = await (await backup()).inspectBackup(file, bytes)
      await replace(file, bytes)
      show(command, view)
    })

  snapshot
    .command('inspect')
    .description('Show what is in a file, and whether all of it is as it was written. Needs no agent.')
    .argument('<file>', 'a backup, or a file of a host’s own DATA-DIR/snapshot')
    .addHelpText('after', '\nExample: vxmesh snapshot inspect /backup/vxmesh.snap')
    .action(async (file: string, _: unknown, command: Command) => {
      const { readBackup, inspectBackup } = await backup()
      show(command, await inspectBackup(file, await readBackup(file)))
    })

  snapshot
    .command('restore')
    .description('Put a backup into the empty data directory of one new server, for a new cluster. Needs no agent.')
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

/** As `vxmesh agent` finds it: flag, variable, file, default. @throws ERR_CONFIG */
async function dataDirOf({ dataDir, config }: { dataDir?: string; config?: string }, io: CliIo): Promise<string> {
  const file = config ?? io.env['VXMESH_CONFIG']
  const given = dataDir ?? io.env['VXMESH_DATA_DIR']
  if (given !== undefined) return absolutePath('VXMESH_DATA_DIR')(given)
  if (file !== undefined) return (await loadConfig({ file, env: io.env, flags: {} })).dataDir
  return String(KEY_FACTS.find(({ key }) => key === 'dataDir')?.fallback)
}

/** Two at once, of a timer that overtakes itself, must not get into each other’s file. @throws ERR_STORAGE */
async function replace(file: string, bytes: Uint8Array): Promise<void> {
  const aside = `${file}.${randomKey(6).toString('hex')}`
  await writeDurably(aside, bytes)
  try {
    await rename(aside, file)
    await syncDirectory(dirname(resolve(file)))
  } catch (err) {
    await removeFile(aside)
    throw storageError(`cannot write ${file}`, err)
  }
}
