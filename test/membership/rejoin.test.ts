// Whom a host tries to join again, and when; with a manual clock.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { Rejoin, type RejoinAttempt } from '#membership/serf/rejoin.ts'
import { parseIp } from '#model/ip.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import type { Member, MemberStatus } from '#model/member.ts'
import { peer } from '#test/allocator/fixtures.ts'
import { ManualClock } from '#test/lab/manual-clock.ts'
import { seededRandom } from '#test/replication/memory-cluster.ts'

const member = (n: number, status: MemberStatus = 'alive'): Member => ({
  name: `h${n}` as Member['name'],
  address: (0xc0000200 + n) as Ipv4,
  port: 7946,
  status,
  role: 'server',
  peerId: peer(n),
  vtep: n as Ipv4,
  p2pPort: 7947,
  protocol: 1,
  bootstrapExpect: 3
})
const address = (n: number): string => `192.0.2.${n}:7946`

class World {
  readonly manual = new ManualClock()
  readonly rejoin: Rejoin
  readonly file: string

  constructor(t: Test, peers?: string) {
    const dir = mkdtempSync(join(tmpdir(), 'vxmesh-rejoin-'))
    t.teardown(() => rmSync(dir, { recursive: true, force: true }))
    this.file = join(dir, 'peers.json')
    if (peers !== undefined) writeFileSync(this.file, peers)
    this.rejoin = new Rejoin({ self: peer(1), dir, clock: this.manual.clock, random: seededRandom(3) })
  }

  async see(...members: Member[]): Promise<void> {
    await this.rejoin.remember([member(1), ...members])
  }

  /** The attempts of so many seconds, one look a second. */
  async attempts(seconds: number, members: readonly Member[], seeds: readonly string[] = []): Promise<RejoinAttempt[]> {
    const found: RejoinAttempt[] = []
    for (let n = 0; n < seconds; n++) {
      const attempt = await this.rejoin.next([member(1), ...members], seeds)
      if (attempt !== null) found.push(attempt)
      await this.manual.advance(1_000)
    }
    return found
  }
}

t.test('a peer that Serf has forgotten is tried for ever, while others are alive', async t => {
  const world = new World(t)
  await world.see(member(2), member(3))
  t.same(await world.attempts(60, [member(2), member(3)]), [], 'nobody is missing')
  const aDay = 24 * 60 * 60
  const attempts = await world.attempts(aDay, [member(2)])
  t.ok(attempts.every(attempt => !attempt.alone && attempt.addresses.length === 1))
  t.same(new Set(attempts.flatMap(({ addresses }) => addresses)), new Set([address(3)]))
  t.ok(attempts.length > aDay / 120 && attempts.length < aDay / 30, `${attempts.length} attempts in a day`)
})

t.test('after a long cut of three against three each side tries one of the other side at a time', async t => {
  const world = new World(t)
  const [ours, theirs] = [
    [member(2), member(3)],
    [member(4), member(5), member(6)]
  ]
  await world.see(...ours, ...theirs)
  const tried = new Set((await world.attempts(1_200, ours)).flatMap(({ addresses }) => addresses))
  t.same(tried, new Set([4, 5, 6].map(address)), 'whichever answers brings the others along')
})

t.test('a failed peer is Serf’s to reconnect to as long as it is listed', async t => {
  const world = new World(t)
  await world.see(member(2), member(3))
  t.same(await world.attempts(300, [member(2), member(3, 'failed')]), [])
})

t.test('a peer that has left is forgotten', async t => {
  const world = new World(t)
  await world.see(member(2), member(3))
  await world.see(member(2), member(3, 'left'))
  t.same(await world.attempts(300, [member(2)]), [])
  t.same(JSON.parse(readFileSync(world.file, 'utf8')), [address(2)])
})

t.test('a peer with an IPv6 address is joined by it in brackets', async t => {
  const world = new World(t)
  await world.see({ ...member(2), address: parseIp('fd00::2') })
  t.same(await world.attempts(1, []), [{ alone: true, addresses: ['[fd00::2]:7946'] }])
})

t.test('a peer that was alive counts for a new process, too', async t => {
  const world = new World(t, JSON.stringify([address(2), address(3)]))
  const [first] = await world.attempts(1, [member(2)])
  t.same(first, { alone: false, addresses: [address(3)] })
})

t.test('a change of who is missing is tried at once', async t => {
  const world = new World(t)
  await world.see(member(2), member(3), member(4))
  await world.attempts(600, [member(2), member(3)])
  t.equal((await world.attempts(1, [member(2)])).length, 1)
})

t.test('the addresses of those alive longest ago are forgotten beyond 1,024', async t => {
  const world = new World(t)
  const many = Array.from({ length: 1_500 }, (_, n) => ({ ...member(2), peerId: peer(2), port: 1_000 + n }))
  await world.see(...many)
  const kept = JSON.parse(readFileSync(world.file, 'utf8')) as string[]
  t.equal(kept.length, 1_024)
  t.notOk(kept.includes('192.0.2.2:1000'))
  t.ok(kept.includes('192.0.2.2:2499'))
})

t.test('a file that cannot be written is an error, and nothing is forgotten', async t => {
  const world = new World(t)
  await world.see(member(2))
  rmSync(join(world.file, '..'), { recursive: true })
  await t.rejects(world.see(member(2), member(3)), { code: 'ERR_STORAGE' })
  t.same((await world.attempts(1, [])).flatMap(({ addresses }) => addresses).sort(), [address(2), address(3)])
})
