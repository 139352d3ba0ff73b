// The incarnation of this host's disk (docs/adr/0017): 0 on a founder, otherwise a random number drawn when the host first
// joins its cluster. It is stored beside the log and lost with it, so a wiped disk is told apart under the same peer id.

import { join } from 'node:path'
import { readDurable, writeDurable } from '#platform/durable-file.ts'
import { storageError } from '#platform/storage-error.ts'
import type { Random } from '#platform/random.ts'
import type { HostDisk } from './host-disk.ts'

const MAX = 0x7fffffff

/** Null when none has been drawn yet. @throws ERR_STORAGE when the file is damaged */
export async function readIncarnation({ dataDir, files }: HostDisk): Promise<number | null> {
  const path = pathOf(dataDir)
  const text = (await readDurable(files, path))?.toString().trim()
  if (text === undefined) return null
  if (!/^[1-9][0-9]{0,9}$/.test(text))
    throw storageError(`${path} is damaged`, new Error(`it holds "${text.slice(0, 20)}"`))
  return Number(text)
}

/** Draws a new one; it is durable when the promise resolves. @throws ERR_STORAGE */
export async function drawIncarnation({ dataDir, files }: HostDisk, random: Random): Promise<number> {
  const drawn = 1 + Math.floor(random.unit() * MAX)
  await writeDurable(files, pathOf(dataDir), `${drawn}\n`)
  return drawn
}

function pathOf(dataDir: string): string {
  return join(dataDir, 'incarnation')
}
