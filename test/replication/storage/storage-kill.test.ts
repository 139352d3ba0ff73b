// A process that is killed while it writes to the real disk.

import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import t from 'tap'
import { systemClock } from '#platform/clock.ts'
import { Wal } from '#replication/storage/wal.ts'

const KILLS = 5

t.test(`what a log has acknowledged is there after its process was killed, ${KILLS} times`, async t => {
  const dir = await mkdtemp(join(tmpdir(), 'vxmesh-kill-'))
  t.teardown(() => rm(dir, { recursive: true, force: true }))
  let before = 0
  for (let kill = 1; kill <= KILLS; kill++) {
    const acknowledged = await writeUntilKilled(dir, before + 20 * kill)
    t.ok(acknowledged >= before + 20 * kill, `${acknowledged} acknowledged`)
    const { wal, recovered } = await Wal.open(dir, { clock: systemClock })
    await wal.close()
    const { entries } = recovered.durable
    t.ok(entries.length >= acknowledged, `${entries.length} recovered`)
    t.ok(entries.every(({ data, index }) => data.byteLength === 20 + (index % 1_500) && isFilled(data, index)))
    before = entries.length
  }
})

/** Runs a writer until it has acknowledged an index, kills it, and returns the last index that it acknowledged. */
async function writeUntilKilled(dir: string, index: number): Promise<number> {
  const writer = join(import.meta.dirname, 'endless-writer.ts')
  const child = spawn(process.execPath, [writer, dir], { stdio: ['ignore', 'pipe', 'inherit'] })
  let last = 0
  for await (const line of createInterface({ input: child.stdout })) {
    last = Math.max(last, Number(line))
    if (last >= index) child.kill('SIGKILL')
  }
  return last
}

function isFilled(data: Uint8Array, value: number): boolean {
  return Buffer.alloc(data.byteLength, value).equals(data)
}
