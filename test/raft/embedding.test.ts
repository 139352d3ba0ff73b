// The loop of src/raft/README.md is the file embedding.ts, word by word, and it works: three servers with asynchronous
// disks and an unreliable network elect a leader, commit, read, take and install snapshots, and survive a crash.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import t from 'tap'
import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import type { Configuration, DurableState, Effect, Entry, HardState, Message, Snapshot } from '#raft/types.ts'
import { Random } from '../sim/random.ts'
import { OPTIONS } from './cluster.ts'
import { RaftLoop } from './embedding.ts'

const IDS = ['s1', 's2', 's3'] as const
const CONFIGURATION: Configuration = { voters: [...IDS] as unknown as PeerId[], learners: [] }

/** A disk whose writes take a few turns of the event loop. */
class Disk {
  hardState: HardState = { term: 0 as Term, votedFor: null }
  entries: Entry[] = []
  snapshot: Snapshot | null = null
  isFailing = false

  async write(write: Extract<Effect, { readonly kind: 'persist' | 'install' }>): Promise<void> {
    await nextTurn()
    if (this.isFailing) throw new Error('EIO')
    if (write.kind === 'install') {
      this.snapshot = write.snapshot
      this.entries = []
      return
    }
    const { truncateFrom } = write
    if (truncateFrom !== null) this.entries = this.entries.filter(({ index }) => index < truncateFrom)
    this.entries.push(...write.entries)
    this.hardState = write.hardState ?? this.hardState
  }

  async save(snapshot: Snapshot): Promise<void> {
    await nextTurn()
    this.snapshot = snapshot
    this.entries = this.entries.filter(({ index }) => index > snapshot.meta.lastIndex)
  }

  read(): DurableState {
    const { hardState, entries, snapshot } = this
    return { hardState, entries: [...entries], commitIndex: 0 as LogIndex, snapshot: snapshot?.meta ?? null }
  }
}

class Machine {
  readonly id: PeerId
  readonly disk: Disk
  readonly loop: RaftLoop
  text = ''
  fatal: unknown = null

  constructor(id: PeerId, disk: Disk, p: { readonly world: World; readonly seed: number }) {
    this.id = id
    this.disk = disk
    const random = new Random(p.seed)
    this.text = Buffer.from(disk.snapshot?.data ?? []).toString()
    this.loop = new RaftLoop(
      {
        self: id,
        clusterId: 'example' as ClusterId,
        options: OPTIONS,
        durable: disk.read(),
        snapshotData: disk.snapshot?.data ?? null,
        configuration: CONFIGURATION,
        nowMs: p.world.nowMs,
        random: random.unit()
      },
      {
        nowMs: () => p.world.nowMs,
        random: () => random.unit(),
        write: write => disk.write(write),
        send: message => p.world.send(this, message),
        apply: entry => {
          if (entry.kind === 'command') this.text += Buffer.from(entry.data).toString()
          return this.text
        },
        restore: snapshot => void (this.text = Buffer.from(snapshot.data).toString()),
        save: snapshot => disk.save(snapshot),
        fatal: err => void (this.fatal = err)
      }
    )
  }
}

class World {
  nowMs = 0
  readonly machines = new Map<PeerId, Machine>()
  readonly #random = new Random(7)
  #wire: Message[] = []
  /** Nothing to or from these arrives. */
  cut: readonly PeerId[] = []

  constructor() {
    for (const id of IDS) this.start(id as PeerId, new Disk())
  }

  /** A machine that runs under this id now; one that ran before has crashed. */
  start(id: PeerId, disk: Disk): Machine {
    const machine = new Machine(id, disk, { world: this, seed: id.charCodeAt(1) + this.nowMs })
    this.machines.set(id, machine)
    return machine
  }

  send(from: Machine, message: Message): void {
    if (this.machines.get(message.from) === from) this.#wire.push(message)
  }

  async run(ms: number): Promise<void> {
    for (const untilMs = this.nowMs + ms; this.nowMs < untilMs; this.nowMs += 25) {
      for (const machine of this.machines.values()) machine.loop.handle({ kind: 'tick' })
      for (let turn = 0; turn < 6; turn++) {
        const wire = this.#wire.sort(() => this.#random.unit() - 0.5)
        this.#wire = []
        for (const message of wire) this.#deliver(message)
        await nextTurn()
      }
    }
  }

  /** The wire loses one message in ten and duplicates as many. */
  #deliver(message: Message): void {
    if (this.cut.includes(message.from) || this.cut.includes(message.to) || this.#random.chance(0.1)) return
    for (let n = this.#random.chance(0.1) ? 2 : 1; n > 0; n--) {
      this.machines.get(message.to)?.loop.handle({ kind: 'receive', message })
    }
  }

  get leader(): Machine {
    const leaders = [...this.machines.values()].filter(({ loop }) => loop.state.role === 'leader')
    const leader = leaders.sort((a, b) => b.loop.state.term - a.loop.state.term)[0]
    if (leader === undefined) throw new Error('no server leads')
    return leader
  }
}

t.test('the page shows the loop word by word', t => {
  const page = readFileSync(join(import.meta.dirname, '../../src/raft/README.md'), 'utf8')
  const code = readFileSync(join(import.meta.dirname, 'embedding.ts'), 'utf8')
  t.equal(/```ts\n([\s\S]*?)```/.exec(page)?.[1], code)
  for (let duty = 1; duty <= 11; duty++) t.match(page, new RegExp(`^${duty}\\. \\*\\*`, 'm'))
  t.end()
})

t.test('three servers with the loop commit what clients propose, and a read returns all of it', async t => {
  const world = new World()
  await world.run(3_000)
  const { leader } = world
  const answers = [leader.loop.propose(Buffer.from('a')), leader.loop.propose(Buffer.from('b'))]
  await world.run(1_000)
  t.same(await Promise.all(answers), ['a', 'ab'])
  const index = leader.loop.readIndex()
  await world.run(500)
  t.ok((await index) >= 3 && leader.text === 'ab')
  t.same(
    [...world.machines.values()].map(({ text }) => text),
    ['ab', 'ab', 'ab']
  )
})

t.test('a crashed server returns from its disk, and one that was away gets a snapshot', async t => {
  const world = new World()
  await world.run(3_000)
  const away = [...world.machines.values()].find(machine => machine !== world.leader)
  if (away === undefined) throw new Error('all servers lead')
  world.cut = [away.id]
  const proposals = Array.from({ length: 20 }, (_, n) => world.leader.loop.propose(Buffer.from(`${n},`)))
  await world.run(1_000)
  const texts = await Promise.all(proposals)
  t.ok(await world.leader.loop.takeSnapshot(Buffer.from(world.leader.text)))
  const { id, disk } = world.leader
  world.start(id, disk)
  await world.run(300)
  world.cut = []
  await world.run(10_000)
  const { snapshot } = disk
  t.equal(snapshot?.meta.lastIndex, 21)
  t.same(
    [...world.machines.values()].map(({ text }) => text),
    Array(3).fill(texts.at(-1))
  )
})

t.test('a failed write ends the loop: nothing is sent or handled afterwards, and the outcome is unknown', async t => {
  const world = new World()
  await world.run(3_000)
  const { leader } = world
  leader.disk.isFailing = true
  world.cut = [...IDS] as unknown as PeerId[]
  const outcome = leader.loop.propose(Buffer.from('x')).then(
    () => 'committed',
    (err: unknown) => String(err)
  )
  await world.run(200)
  t.match(leader.fatal, /EIO/)
  t.match(await outcome, /outcome unknown/)
  const { term } = leader.loop.state
  world.cut = []
  await world.run(5_000)
  t.equal(leader.loop.state.term, term)
  t.not(world.leader, leader)
  t.ok(world.leader.loop.state.term > term)
})
