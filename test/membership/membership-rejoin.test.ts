// How a host finds its peers again, with a fake Serf and a manual clock.

import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { Membership } from '#membership/serf/membership.ts'
import type { Clock } from '#platform/clock.ts'
import { encodeMsgpack } from '#platform/msgpack.ts'
import { freePort } from '#test/lab/free-port.ts'
import { ManualClock } from '#test/lab/manual-clock.ts'
import { waitFor } from '#test/lab/wait.ts'
import { FakeSerf } from './fake-serf.ts'
import { record } from './fixtures.ts'
import { optionsOf } from './options.ts'

type Setup = {
  readonly manual: ManualClock
  readonly membership: Membership
  readonly peersFile: string
  /** What Serf lists. */
  members: readonly object[]
  /** Join requests so far. */
  joins: number
  /** Runs one period of the membership's loop. */
  tick(): Promise<void>
  /** Changes what Serf lists, and runs a period in which the view follows. */
  see(...members: object[]): Promise<void>
}

async function setup(t: Test, p: { join?: readonly string[]; peers?: string } = {}): Promise<Setup> {
  const dataDir = mkdtempSync(join(tmpdir(), 'vxmesh-rejoin-'))
  const binary = join(dataDir, 'serf-binary')
  // Runs until it is killed, and for 60 seconds at most.
  writeFileSync(binary, '#!/bin/sh\nfor i in $(seq 1200); do sleep 0.05; done\n')
  chmodSync(binary, 0o700)
  const manual = new ManualClock()
  const rpcPort = await freePort()
  // The loop sleeps between its periods, and nothing else does.
  let periods = 0
  const sleep: Clock['sleep'] = (ms, signal) => {
    periods += 1
    return manual.clock.sleep(ms, signal)
  }
  const clock = { ...manual.clock, sleep }
  const options = { ...optionsOf(1, dataDir), binary, rpcPort, clock, join: p.join ?? [] }
  const membership = new Membership(options)
  await membership.launch()
  const peersFile = join(dataDir, 'serf/peers.json')
  if (p.peers !== undefined) writeFileSync(peersFile, p.peers)
  const made: Setup = {
    manual,
    membership,
    peersFile,
    members: [record(1)],
    joins: 0,
    tick: async () => {
      const before = periods
      await manual.advance(1_000)
      await waitFor('the end of the period', () => periods > before, { everyMs: 2 })
    },
    see: async (...members) => {
      made.members = members
      await made.tick()
      await waitFor('the view', () => membership.view()?.members.length === members.length)
      await made.tick()
    }
  }
  const fake = await FakeSerf.listen(
    ({ Command, Seq }, socket) => {
      if (Command === 'join') made.joins += 1
      if (Command !== 'members') return false
      socket.write(Buffer.concat([encodeMsgpack({ Seq, Error: '' }), encodeMsgpack({ Members: made.members })]))
      return true
    },
    { port: rpcPort }
  )
  t.teardown(async () => {
    let stopped = false
    const stopping = membership.stop().finally(() => (stopped = true))
    await waitFor('the end', async () => {
      await manual.advance(20)
      return stopped
    })
    await stopping
    await fake.close()
    rmSync(dataDir, { recursive: true, force: true })
  })
  await membership.start()
  await waitFor('the first period', () => periods === 1)
  return made
}

/** In which periods of the next `periods` a join was requested. */
async function joinsIn(s: Setup, periods: number): Promise<number[]> {
  const found: number[] = []
  for (let n = 1; n <= periods; n++) {
    const before = s.joins
    await s.tick()
    if (s.joins > before) found.push(n)
  }
  return found
}

t.test('a host without a live peer joins its configured addresses, backing off from 1 to 15 s', async t => {
  const s = await setup(t, { join: ['192.0.2.2:7946'] })
  t.same(await joinsIn(s, 50), [1, 2, 4, 8, 16, 31, 46])
})

t.test('a failed peer does not count as live, a live one stops the joins and resets the back-off', async t => {
  const s = await setup(t, { join: ['192.0.2.2:7946'] })
  await s.see(record(1), record(2, { Status: 'failed' }))
  t.equal(s.joins, 2)
  await s.see(record(1), record(2), record(3))
  t.same(await joinsIn(s, 20), [])
  const before = s.joins
  await s.see(record(1))
  await joinsIn(s, 4)
  t.equal(s.joins - before, 3, 'three joins in six periods: from 1 s again')
})

t.test('addresses of live peers are saved, and used by a host that has no others', async t => {
  const s = await setup(t)
  t.same(await joinsIn(s, 3), [], 'no address is known')
  await s.see(record(1), record(2), record(3, { Status: 'left' }))
  await s.tick()
  t.same(JSON.parse(readFileSync(s.peersFile, 'utf8')), ['192.0.2.2:7946'])
  await s.see(record(1))
  t.ok((await joinsIn(s, 4)).length >= 1)
  t.same(JSON.parse(readFileSync(s.peersFile, 'utf8')), ['192.0.2.2:7946'], 'kept without live peers')
})

t.test('a damaged file of addresses counts as empty', async t => {
  for (const peers of ['', 'nonsense', '{"a":1}', '[1, null]']) {
    const s = await setup(t, { peers })
    t.same(await joinsIn(s, 3), [], peers)
  }
})

t.test('new join addresses are tried at once', async t => {
  const s = await setup(t, { join: ['192.0.2.2:7946'] })
  t.same(await joinsIn(s, 9), [1, 2, 4, 8])
  await s.membership.setJoin(['192.0.2.3:7946'])
  t.same(await joinsIn(s, 2), [1, 2])
})
