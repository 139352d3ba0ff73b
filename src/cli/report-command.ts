// `vxmesh report`: one archive for a bug report.

import { hostname } from 'node:os'
import { resolve } from 'node:path'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import type { Command } from 'commander'
import { writeDurably } from '#platform/files.ts'
import { tar } from '#platform/tar.ts'
import { addSettings, settingsOf } from './agent-command.ts'
import { facts, render } from './output.ts'
import type { CommandContext } from './context.ts'
import { collectReport } from './report.ts'

export function reportCommand(program: Command, p: CommandContext & { readonly version: string }): void {
  const { io, socketOf, formatOf, version } = p
  addSettings(
    program
      .command('report')
      .description('Collect the data for a bug report in one archive, without secrets. Works without an agent.')
      .argument('[file]', 'the archive; default: ./vxmesh-report-HOST-TIME.tar.gz')
      .addHelpText(
        'after',
        '\nIt holds status, members, hosts, networks, endpoints, settings with origin,' +
          '\nthe end of the logs, kernel state and versions; also names and addresses.' +
          '\nExample: vxmesh report --config /etc/vxmesh/vxmesh.yaml'
      )
  ).action(async function (this: Command, given: string | undefined) {
    const now = new Date()
    const file = resolve(
      given ?? `vxmesh-report-${hostname()}-${now.toISOString().slice(0, 19).replaceAll(':', '')}.tar.gz`
    )
    const progress = (part: string): void => {
      // Only for a terminal, and not on stdout, which may be piped.
      if (io.columns !== undefined) io.err(`collecting ${part}\n`)
    }
    const sources = settingsOf(this, io)
    const { files, missing } = await collectReport({ socket: socketOf(this), sources, version, progress })
    const archive = await promisify(gzip)(tar(files, { seconds: now.getTime() / 1_000 }))
    await writeDurably(file, archive)
    const result = { file, bytes: archive.byteLength, parts: files.length, missing }
    const output = formatOf(this)
    if (output !== 'table') io.out(render(output, result))
    else {
      const lines = [
        ['file', file] as const,
        ['bytes', `${archive.byteLength}`] as const,
        ['parts', `${files.length}`] as const
      ]
      io.out(
        facts([...lines, ['missing', missing.length === 0 ? 'nothing' : `${missing.length}: see missing.txt in it`]])
      )
    }
  })
}
