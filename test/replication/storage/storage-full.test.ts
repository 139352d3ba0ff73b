// A full disk: a small tmpfs in a mount namespace of the test's own.

import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'

const skip = process.getuid?.() === 0 ? false : 'needs root, to mount a small file system'

t.test('a full disk is a typed error, and nothing acknowledged is lost', { skip }, async t => {
  const dir = await mkdtemp(join(tmpdir(), 'vxmesh-full-'))
  t.teardown(() => rm(dir, { recursive: true, force: true }))
  const script = 'mount -t tmpfs -o size=4m none "$1" && exec "$2" "$3" "$1"'
  const child = join(import.meta.dirname, 'full-disk.ts')
  const { stdout } = await promisify(execFile)('unshare', [
    '-m',
    'sh',
    '-c',
    script,
    'sh',
    dir,
    process.execPath,
    child
  ])
  const found = JSON.parse(stdout) as Record<string, unknown>
  t.match(found['appendError'], { code: 'ERR_STORAGE', message: /ENOSPC/ })
  t.match(found['saveError'], { code: 'ERR_STORAGE', message: /ENOSPC/ })
  t.equal(found['laterError'], 'ERR_STORAGE', 'the log stays failed even when space is free again')
  t.ok(Number(found['acknowledged']) > 1_000)
  t.ok(Number(found['recovered']) >= Number(found['acknowledged']))
  t.equal(found['snapshotWhileFull'], 2)
  t.equal(found['snapshotAfter'], 3)
  t.equal(found['continuedTo'], Number(found['recovered']) + 1)
})
