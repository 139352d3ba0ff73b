// Programs of other projects, unpacked from their Debian packages into a folder of the checkout. They are not installed, so
// that none of their services is started on the machine.

import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { run } from '#platform/process.ts'
import { say } from '../report.ts'

const CACHE = resolve(import.meta.dirname, '../../dist/peers')

/** @returns the path of a program, whose package is fetched once. @throws Error when the package is not available */
export async function debianProgram(name: string, path: string): Promise<string> {
  const dir = join(CACHE, name)
  if (!existsSync(join(dir, path))) await fetch(name, dir)
  return join(dir, path)
}

/** Into a folder of its own first, because other processes may fetch the same package now. */
async function fetch(name: string, dir: string): Promise<void> {
  say(`fetching ${name}`)
  await mkdir(CACHE, { recursive: true })
  const own = await mkdtemp(`${dir}.`)
  try {
    const { exitCode, stderr } = await run('sh', ['-c', `cd "$1" && apt-get -q download "$2"`, 'sh', own, name], {
      timeoutMs: 120_000
    })
    if (exitCode !== 0) throw new Error(`apt-get download ${name}: ${stderr}`)
    const archive = (await readdir(own)).find(file => file.endsWith('.deb'))
    if (archive === undefined) throw new Error(`apt-get download ${name} fetched no package`)
    const unpacked = await run('dpkg-deb', ['-x', join(own, archive), own], { timeoutMs: 60_000 })
    if (unpacked.exitCode !== 0) throw new Error(`dpkg-deb -x ${archive}: ${unpacked.stderr}`)
    await rename(own, dir).catch((err: unknown) => {
      if (!existsSync(dir)) throw err
    })
  } finally {
    await rm(own, { recursive: true, force: true })
  }
}
