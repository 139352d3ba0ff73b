// Serf's log under a flood.

import { spawn } from 'node:child_process'
import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { digestLog } from '#membership/serf/log-digest.ts'
import { LOG_CHECK_MS, MAX_LOG_BYTES, SerfLog } from '#membership/serf/serf-log.ts'
import { createLogger } from '#platform/log.ts'
import { ManualClock } from '#test/lab/manual-clock.ts'
import { waitFor } from '#test/lab/wait.ts'

const GARBAGE = (n: number): string =>
  `    2026/11/29 06:30:14 [ERR] memberlist: Decrypt packet failed: Unsupported encryption version ${n % 256} from=192.0.2.9:${n}\n`

function setup(t: Test): { dir: string; log: SerfLog; manual: ManualClock } {
  const dir = mkdtempSync(join(tmpdir(), 'vxmesh-serf-log-'))
  const manual = new ManualClock()
  const log = new SerfLog({ dir, clock: manual.clock, logger: createLogger('silent') })
  t.teardown(async () => {
    await log.stop()
    rmSync(dir, { recursive: true, force: true })
  })
  return { dir, log, manual }
}

t.test(
  'the log stays within its bound while a process writes to it, which the end of the agent does not end',
  async t => {
    const { log, manual } = setup(t)
    const descriptor = openSync(log.path, 'a')
    const line = GARBAGE(1).trimEnd()
    const flood = spawn('yes', [line], { stdio: ['ignore', descriptor, descriptor], detached: true })
    t.teardown(() => flood.kill('SIGKILL'))
    log.start()
    let largest = 0
    await waitFor('the log to be truncated ten times', async () => {
      await manual.advance(LOG_CHECK_MS)
      await log.bound()
      largest = Math.max(largest, statSync(`${log.path}.1`, { throwIfNoEntry: false })?.size ?? 0)
      return log.droppedBytes > 10 * MAX_LOG_BYTES
    })
    t.ok(largest > 0 && largest < 1_024, `the digest has ${largest} bytes`)
    await log.stop()
    const before = statSync(log.path).size
    await waitFor('the process to write on, with nobody who reads', () => statSync(log.path).size !== before)
    t.equal(flood.exitCode, null)
    flood.kill('SIGSTOP')
    await log.bound()
    t.ok(statSync(log.path).size <= MAX_LOG_BYTES)
  }
)

t.test('a log is truncated in place, at the next check after it exceeds the bound', async t => {
  const { log, manual } = setup(t)
  log.start()
  writeFileSync(log.path, Buffer.alloc(MAX_LOG_BYTES, 'x'))
  const { ino } = statSync(log.path)
  await manual.advance(LOG_CHECK_MS)
  await log.bound()
  t.equal(statSync(log.path).size, MAX_LOG_BYTES)
  appendFileSync(log.path, `\n${GARBAGE(1)}${GARBAGE(2)}    Name conflict\n`)
  await manual.advance(LOG_CHECK_MS)
  await waitFor('the truncation', () => existsSync(`${log.path}.1`))
  t.equal(statSync(log.path).size, 0)
  t.equal(statSync(log.path).ino, ino, 'Serf still writes to this file')
  t.equal(readFileSync(`${log.path}.1`, 'utf8'), `${GARBAGE(1).trimEnd()} (2 lines alike)\n    Name conflict\n`)
  t.ok(log.droppedBytes > MAX_LOG_BYTES)
})

t.test('a missing log, and one that cannot be truncated, are no errors', async t => {
  const { dir, log } = setup(t)
  await log.bound()
  rmSync(dir, { recursive: true, force: true })
  await log.bound()
  t.equal(log.droppedBytes, 0)
})

t.test('a digest keeps one line of a kind, and counts the rest', async t => {
  const flood = Array.from({ length: 1_000 }, (_, n) => GARBAGE(n)).join('')
  const digest = digestLog(`first\n${flood}last\n`)
  t.strictSame(digest.text.split('\n'), ['first', `${GARBAGE(0).trimEnd()} (1000 lines alike)`, 'last', ''])
  t.match(digest, { lines: 1_002, mostFrequent: GARBAGE(0).trimEnd() })
  t.match(digestLog(''), { lines: 0, mostFrequent: '' })
  const letters = 'abcdefghijklmnopqrst'
  const distinct = Array.from(letters)
    .flatMap(a => Array.from(letters, b => `${a}${b}`))
    .join('\n')
  t.match(digestLog(distinct).text, /\nand 200 lines of other kinds\n$/, 'kinds are bounded')
  t.ok(digestLog('y'.repeat(1_000_000)).text.length < 600, 'and so is a line')
})
