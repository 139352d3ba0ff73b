// Crashes a host's storage at every file operation: everything acknowledged by then must be recovered.

import t, { type Test } from 'tap'
import type { LogIndex, Term } from '#model/ids.ts'
import type { Storage } from '#replication/storage/storage.ts'
import { Random } from '#test/sim/random.ts'
import { SimulatedDisk } from './simulated-disk.ts'
import { digestOf, openSmall, Workload, type Digest } from './storage-workload.ts'

type Allowed = { readonly states: readonly Digest[]; readonly commitAtLeast: number; readonly commitAtMost: number }

class Checker {
  readonly #t: Test
  recoveries = 0
  failures = 0

  constructor(t: Test) {
    this.#t = t
  }

  /** Opens the disk that a crash left and checks the recovered state. */
  async recover(disk: SimulatedDisk, allowed: Allowed, how: string): Promise<Storage | null> {
    this.recoveries += 1
    try {
      const storage = await openSmall(disk)
      const found = await digestOf(storage)
      const { commitIndex } = storage.recovered.durable
      if (!allowed.states.includes(found)) this.#fail(how, { found, states: allowed.states })
      if (commitIndex < allowed.commitAtLeast || commitIndex > allowed.commitAtMost) {
        this.#fail(how, { commitIndex, ...allowed })
      }
      return storage
    } catch (err) {
      this.#fail(how, { err })
      return null
    }
  }

  #fail(how: string, details: Record<string, unknown>): void {
    this.failures += 1
    if (this.failures <= 10) this.#t.fail(how, details)
  }
}

const OPERATIONS = 1_000

t.test(`nothing acknowledged is lost, wherever a kill or a power cut interrupts ${OPERATIONS} operations`, async t => {
  const disk = new SimulatedDisk()
  const random = new Random(1)
  const checker = new Checker(t)
  const workload = await Workload.start(disk, new Random(2))
  disk.afterEach = async () => {
    const { requested, acknowledged } = workload.commit
    const states = workload.allowed()
    const kill = { states, commitAtLeast: acknowledged, commitAtMost: requested }
    const cut = { states, commitAtLeast: 0, commitAtMost: requested }
    const where = `operation ${disk.operations}`
    const [killed, powerless] = [disk.clone(), disk.powerCut(random)]
    if (disk.operations % 20 === 0) await crashInRecovery(checker, killed.clone(), cut, random)
    const storage = await checker.recover(killed, kill, `killed at ${where}`)
    await checker.recover(powerless, cut, `power cut at ${where}`)
    if (storage !== null && disk.operations % 3 === 0)
      await appendAfter(checker, { storage, disk: killed, random, where })
  }
  await workload.run(OPERATIONS)
  disk.afterEach = null
  await workload.close()
  t.equal(checker.failures, 0)
  t.ok(disk.operations > 3 * OPERATIONS, 'every file operation was a crash point')
  for (const kind of [
    'append',
    'vote',
    'conflict',
    'commit',
    'snapshot',
    'snapshot ahead',
    'received',
    'rest',
    'reopen'
  ]) {
    t.ok((workload.counts.get(kind) ?? 0) > 0, `${kind}: ${workload.counts.get(kind) ?? 0}`)
  }
  t.comment(`${disk.operations} crash points, ${checker.recoveries} recoveries`)
})

/** After a restart the recovered data is as durable as new appends: a power cut loses neither. */
async function appendAfter(
  checker: Checker,
  p: { storage: Storage; disk: SimulatedDisk; random: Random; where: string }
): Promise<void> {
  const { durable } = p.storage.recovered
  const index = ((durable.entries.at(-1)?.index ?? durable.snapshot?.lastIndex ?? 0) + 1) as LogIndex
  const entry = { index, term: (durable.hardState.term + 1) as Term, kind: 'noop' as const, data: Buffer.alloc(0) }
  await p.storage.wal.append([{ kind: 'entry', entry }])
  const all = { ...durable, entries: [...durable.entries, entry] }
  const states = [await digestOf({ ...p.storage, recovered: { ...p.storage.recovered, durable: all } })]
  const allowed = { states, commitAtLeast: 0, commitAtMost: Infinity }
  await checker.recover(p.disk.powerCut(p.random), allowed, `power cut after an append that follows ${p.where}`)
}

/** Recovery writes, too: a crash at any point of it must be recoverable. */
async function crashInRecovery(checker: Checker, disk: SimulatedDisk, allowed: Allowed, random: Random): Promise<void> {
  const left: SimulatedDisk[] = []
  disk.afterEach = async () => {
    left.push(disk.clone(), disk.powerCut(random))
  }
  await openSmall(disk)
  for (const again of left) await checker.recover(again, allowed, 'crash during recovery')
}
