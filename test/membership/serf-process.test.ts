// The supervision of Serf, with a shell script in place of Serf and a manual clock.

import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { SerfLog } from '#membership/serf/serf-log.ts'
import { SerfProcess } from '#membership/serf/serf-process.ts'
import { createLogger } from '#platform/log.ts'
import { ManualClock } from '#test/lab/manual-clock.ts'
import { waitFor } from '#test/lab/wait.ts'

const CONFIG = '{"node_name":"h1"}\n'

type Setup = {
  readonly dir: string
  readonly binary: string
  readonly manual: ManualClock
  readonly serf: SerfProcess
  /** The current process is being watched: its start time has been read from the clock. */
  readonly isSupervised: () => boolean
}

function setup(t: Test, p: { dir?: string; config?: string; serving?: string | null } = {}): Setup {
  const dir = p.dir ?? mkdtempSync(join(tmpdir(), 'vxmesh-serf-'))
  const binary = join(dir, 'serf')
  if (!existsSync(binary)) {
    // Runs until it is killed, and for 30 seconds at most.
    const body = 'echo start >> "$(dirname "$0")/starts"\nfor i in $(seq 600); do sleep 0.05; done'
    writeFileSync(binary, `#!/bin/sh\n${body}\n`)
    chmodSync(binary, 0o700)
  }
  const manual = new ManualClock()
  // The supervision reads the clock at the start and at the end of each process.
  let reads = 0
  const nowMs = (): number => {
    reads += 1
    return manual.clock.nowMs()
  }
  const serf = new SerfProcess({
    binary,
    dir,
    log: new SerfLog({ dir, clock: manual.clock, logger: createLogger('silent') }),
    config: p.config ?? CONFIG,
    name: 'h1',
    nameOfServing: () => Promise.resolve(p.serving ?? null),
    clock: { ...manual.clock, nowMs },
    logger: createLogger('silent')
  })
  t.teardown(async () => {
    await finish(manual, serf.stop())
    if (p.dir === undefined) rmSync(dir, { recursive: true, force: true })
  })
  return { dir, binary, manual, serf, isSupervised: () => reads % 2 === 1 }
}

/** Advances the clock until the promise settles. */
async function finish(manual: ManualClock, work: Promise<void>): Promise<void> {
  let settled = false
  const done = work.finally(() => (settled = true))
  await waitFor('the process to end', async () => {
    await manual.advance(20)
    return settled
  })
  await done
}

const starts = (dir: string): number =>
  existsSync(join(dir, 'starts')) ? readFileSync(join(dir, 'starts'), 'utf8').split('\n').length - 1 : 0
const isRunning = (pid: number | null): boolean =>
  pid !== null && existsSync(`/proc/${pid}`) && readFileSync(`/proc/${pid}/cmdline`, 'utf8') !== ''

/** Kills the process and waits until the supervision backs off. */
async function crash({ dir, isSupervised, manual, serf }: Setup, startsSoFar: number): Promise<void> {
  await waitFor('the script to run', () => isSupervised() && starts(dir) === startsSoFar)
  process.kill(serf.pid ?? 0, 'SIGKILL')
  await waitFor('the back-off', () => manual.pending === 1)
}

t.test('a crashed process is restarted after a back-off that doubles, and is reset by a long uptime', async t => {
  const s = setup(t)
  await s.serf.start()
  for (const [at, backOffMs] of [250, 500, 1_000].entries()) {
    await crash(s, at + 1)
    const before = s.serf.pid
    await s.manual.advance(backOffMs - 1)
    t.equal(s.manual.pending, 1, `still backing off after ${backOffMs - 1} ms`)
    await s.manual.advance(1)
    await waitFor('a new process', () => s.serf.pid !== before)
  }
  await waitFor('the fourth process', s.isSupervised)
  await s.manual.advance(30_001)
  await crash(s, 4)
  const before = s.serf.pid
  await s.manual.advance(250)
  await waitFor('a new process', () => s.serf.pid !== before)
})

t.test('a restart that fails is retried with back-off', async t => {
  const s = setup(t)
  await s.serf.start()
  await waitFor('the script to run', () => starts(s.dir) === 1)
  const script = readFileSync(s.binary)
  rmSync(s.binary)
  await crash(s, 1)
  const before = s.serf.pid
  await s.manual.advance(250)
  await waitFor('the next back-off', () => s.manual.pending === 1)
  t.equal(s.serf.pid, before)
  writeFileSync(s.binary, script)
  chmodSync(s.binary, 0o700)
  await s.manual.advance(500)
  await waitFor('a new process', () => s.serf.pid !== before && isRunning(s.serf.pid))
})

t.test('stopping ends the process and the supervision, also while it backs off', async t => {
  const s = setup(t)
  await s.serf.start()
  const { pid } = s.serf
  await finish(s.manual, s.serf.stop())
  t.notOk(isRunning(pid))
  t.equal(s.serf.pid, null)
  t.notOk(existsSync(join(s.dir, 'serf.pid')))

  const other = setup(t)
  await other.serf.start()
  await crash(other, 1)
  await finish(other.manual, other.serf.stop())
  await other.manual.advance(60_000)
  t.equal(starts(other.dir), 1, 'no restart')
})

t.test('a running process is adopted when configuration and name are unchanged, and supervised', async t => {
  const first = setup(t)
  await first.serf.start()
  await waitFor('the script to run', () => first.isSupervised() && starts(first.dir) === 1)
  const next = setup(t, { dir: first.dir, serving: 'h1' })
  await next.serf.start()
  t.equal(next.serf.pid, first.serf.pid)
  process.kill(next.serf.pid ?? 0, 'SIGKILL')
  const adopted = next.serf.pid
  await waitFor('a new process', async () => {
    await next.manual.advance(250)
    return next.serf.pid !== adopted
  })
})

t.test('a running process with another configuration, or that serves under another name, is not adopted', async t => {
  for (const change of [{ config: '{"node_name":"h1","port":1}\n', serving: null }, { serving: null }]) {
    const first = setup(t)
    await first.serf.start()
    await waitFor('the script to run', () => first.isSupervised() && starts(first.dir) === 1)
    const { pid } = first.serf
    const next = setup(t, { dir: first.dir, ...change })
    await finish(next.manual, next.serf.start())
    t.not(next.serf.pid, pid)
    t.notOk(isRunning(pid))
    t.equal(readFileSync(join(first.dir, 'serf.json'), 'utf8'), change.config ?? CONFIG)
  }
})

t.test('a Serf of somebody else on the RPC port, and a missing binary, are errors', async t => {
  const foreign = setup(t, { serving: 'h9' })
  await t.rejects(foreign.serf.start(), { code: 'ERR_SERF', message: /serf\.rpcPort: another serf \(h9\)/ })
  t.notOk(existsSync(join(foreign.dir, 'serf.json')), 'nothing is written')
  const missing = setup(t)
  rmSync(missing.binary)
  await t.rejects(missing.serf.start(), { code: 'ERR_SERF', field: 'serf.binary' })
})

t.test('a log of over 8 MiB is truncated at a start, a smaller one is kept', async t => {
  for (const [bytes, kept] of [
    [8 * 1024 * 1024, true],
    [8 * 1024 * 1024 + 1, false]
  ] as const) {
    const s = setup(t)
    const log = join(s.dir, 'serf.log')
    writeFileSync(log, Buffer.alloc(bytes))
    await s.serf.start()
    t.equal(statSync(log).size >= bytes, kept, `${bytes} bytes`)
  }
})
