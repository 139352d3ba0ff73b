import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { MAX_REMEMBERED, MAX_SESSIONS, MIN_SESSIONS, Sessions, type Session } from '#allocator/sessions.ts'
import { digestOf, hashSessions } from '#allocator/digest.ts'
import { OWN_BUSINESS, RULES, type Command, type Outcome, type Request } from '#model/command.ts'
import type { LogIndex, PeerId } from '#model/ids.ts'
import { parseIpv4, type Ipv4 } from '#model/ipv4.ts'
import { attach, brief, Caller, contents, create, detach, makeHost, remove } from './fixtures.ts'

const OPEN: Command = { kind: 'session-open' }
const index = (n: number): LogIndex => n as LogIndex

function request(session: string, seq: number, settledBelow = 0, command: Command = OPEN): Request {
  return { session, seq, settledBelow, command }
}

/** A distinguishable outcome. */
function numbered(n: number): Outcome {
  return { ok: false, error: { code: 'ERR_BUSY', message: `${n}` } }
}

t.test('a repeated request gets its first answer, and changes nothing', t => {
  const caller = Caller.ready()
  const first = caller.send(request('s1', 50, 50, attach('red', 'c')))
  t.equal(brief(first), 'ok')
  const before = contents(caller.state)
  for (const command of [attach('red', 'c'), attach('red', 'other'), detach('c'), remove('red', true)]) {
    t.equal(caller.send(request('s1', 50, 50, command)), first, 'whatever it carries')
  }
  t.equal(contents(caller.state), before)
  t.end()
})

t.test('a repeated request stays refused, even if it could succeed by now', t => {
  const caller = Caller.ready()
  t.equal(brief(caller.send(request('s1', 50, 50, create('red')))), 'ERR_NETWORK_EXISTS name')
  caller.send(request('s1', 51, 50, remove('red')))
  t.equal(brief(caller.send(request('s1', 50, 50, create('red')))), 'ERR_NETWORK_EXISTS name')
  t.equal(caller.state.networkCount, 0)
  t.end()
})

t.test('the same seq in another session is a different request', t => {
  const caller = Caller.ready()
  caller.send(request('s2', 0))
  t.equal(brief(caller.send(request('s1', 50, 50, create('a')))), 'ok')
  t.equal(brief(caller.send(request('s2', 50, 50, create('a')))), 'ERR_NETWORK_EXISTS name')
  t.end()
})

const refusals: readonly { what: string; request: Request }[] = [
  { what: 'a session that was never opened', request: request('nobody', 1, 0, create('a')) },
  { what: 'a session with an empty name', request: request('', 1, 0, create('a')) },
  { what: 'seq 0, which is the opening', request: request('s1', 0, 0, create('a')) },
  { what: 'an answer that was settled', request: request('s1', 1, 0, create('a')) }
]
for (const { what, request } of refusals) {
  t.test(`refused with ERR_SESSION_EXPIRED, and not carried out: ${what}`, t => {
    const caller = Caller.ready()
    const before = contents(caller.state)
    t.equal(brief(caller.send(request)), 'ERR_SESSION_EXPIRED -')
    t.equal(contents(caller.state), before)
    t.equal(caller.state.sessions.size, 1)
    t.end()
  })
}

t.test('settled answers are dropped, others are kept', t => {
  const sessions = new Sessions()
  sessions.open('s', index(1))
  for (let seq = 1; seq <= 10; seq++) sessions.once(request('s', seq), index(1 + seq), () => numbered(seq))
  sessions.once(request('s', 11, 6), index(12), () => numbered(11))
  const never = (): Outcome => assert.fail('carried out')
  for (let seq = 1; seq <= 11; seq++) {
    const answer = sessions.once(request('s', seq), index(12 + seq), never)
    t.equal(brief(answer), seq < 6 ? 'ERR_SESSION_EXPIRED -' : 'ERR_BUSY -', `seq ${seq}`)
    if (!answer.ok && seq >= 6) t.equal(answer.error.message, `${seq}`)
  }
  t.end()
})

t.test('a request cannot settle its own answer, and settling is never undone', t => {
  const sessions = new Sessions()
  sessions.open('s', index(1))
  sessions.once(request('s', 5, Number.MAX_SAFE_INTEGER), index(2), () => numbered(5))
  t.same(
    sessions.once(request('s', 5), index(3), () => numbered(0)),
    numbered(5)
  )
  t.equal(brief(sessions.once(request('s', 4, 0), index(4), () => numbered(4))), 'ERR_SESSION_EXPIRED -')
  t.same(
    sessions.once(request('s', Number.MAX_SAFE_INTEGER, 0), index(5), () => numbered(6)),
    numbered(6)
  )
  t.end()
})

t.test('one answer beyond the limit drops the lowest', t => {
  const sessions = new Sessions()
  sessions.open('s', index(1))
  const last = MAX_REMEMBERED + 3
  for (let seq = 1; seq <= last; seq++) sessions.once(request('s', seq), index(1 + seq), () => numbered(seq))
  const [[, session] = assert.fail()] = sessions.entries()
  t.equal(session.answers.size, MAX_REMEMBERED)
  const ask = (seq: number): Outcome => sessions.once(request('s', seq), index(last + 1 + seq), () => numbered(0))
  t.same([1, 2, 3].map(ask).map(brief), Array(3).fill('ERR_SESSION_EXPIRED -'))
  t.same([4, last].map(ask), [numbered(4), numbered(last)])
  t.end()
})

t.test('one session beyond the limit expires the least recently used, by log index', t => {
  const sessions = new Sessions()
  for (let n = 1; n <= MIN_SESSIONS; n++) sessions.open(`s${n}`, index(n))
  sessions.open('s1', index(MIN_SESSIONS + 1))
  sessions.once(request('s2', 1), index(MIN_SESSIONS + 2), () => numbered(1))
  sessions.open('one more', index(MIN_SESSIONS + 3))
  sessions.open('another', index(MIN_SESSIONS + 4))
  t.equal(sessions.size, MIN_SESSIONS)
  const ids = [...sessions.entries()].map(([id]) => id)
  t.same(ids.slice(0, 2), ['s5', 's6'])
  t.same(ids.slice(-4), ['s1', 's2', 'one more', 'another'])
  t.equal(brief(sessions.once(request('s3', 1), index(MIN_SESSIONS + 5), () => assert.fail())), 'ERR_SESSION_EXPIRED -')
  t.end()
})

t.test('the bound of sessions follows the number of hosts, and only by the rules that say so', t => {
  const sessions = new Sessions()
  let at = 0
  const open = (id: string, p: { rules?: number; hosts?: number }): unknown => sessions.open(id, index((at += 1)), p)
  const hosts = 10_000
  for (let n = 1; n <= 2 * hosts; n++) open(`h${n}/1`, { rules: RULES, hosts })
  t.equal(sessions.size, 2 * hosts)
  open('one/more', { rules: RULES, hosts })
  t.equal(sessions.size, 2 * hosts)
  t.notOk([...sessions.entries()].some(([id]) => id === 'h1/1'))
  open('by-earlier-rules/1', { rules: OWN_BUSINESS, hosts })
  t.equal(sessions.size, 2 * hosts, 'which expired exactly one, whatever the bound was')
  open('fewer-hosts/1', { rules: RULES, hosts: 5_000 })
  t.equal(sessions.size, hosts, 'half of the hosts were removed')
  open('few-hosts/1', { rules: RULES, hosts: 3 })
  t.equal(sessions.size, MIN_SESSIONS)
  for (let n = 0; n < MAX_SESSIONS; n++) open(`x${n}/1`, { rules: RULES, hosts: 1e6 })
  t.equal(sessions.size, MAX_SESSIONS, 'and never more than the largest cluster needs')
  t.same(sessions.hash, hashSessions(sessions), 'expired sessions have left the digest')
  t.end()
})

t.test('every host of a large cluster keeps its session', t => {
  const caller = Caller.ready()
  const { state } = caller
  const send = (request: Request): Outcome => state.apply((state.appliedIndex + 1) as LogIndex, request)
  const hosts = 3_000
  for (let n = 0; n < hosts; n++) {
    const peerId = `12D3KooW${'x'.repeat(38)}${(n + 100_000).toString().replaceAll('0', 'A')}` as PeerId
    const host = { ...makeHost(1, { name: `x${n}` }), peerId, vtep: (parseIpv4('10.0.0.1') + n) as Ipv4 }
    caller.do({ kind: 'host-register', host })
  }
  const ids = [...Array(hosts).keys()].flatMap(n => [`h${n}/1`, `h${n}/2`])
  for (const id of ids) send({ ...request(id, 0), rules: RULES })
  const answers = ids.map(id => brief(send({ ...request(id, 1, 0, detach('x')), rules: RULES })))
  t.same([...new Set(answers)], ['ERR_ENDPOINT_NOT_FOUND containerId'])
  t.end()
})

t.test('opening a session again changes nothing', t => {
  const caller = Caller.ready()
  const first = caller.send(request('s1', 50, 50, create('a')))
  t.equal(brief(caller.send(request('s1', 0))), 'ok')
  t.equal(caller.send(request('s1', 50, 50, create('a'))), first)
  t.equal(caller.state.sessions.size, 1)
  t.end()
})

t.test('the digest covers answers as long as they are remembered', t => {
  const digests = [1, 2].map(n => {
    const caller = Caller.ready()
    const commands = [create(n === 1 ? 'red' : 'none', { gateway: '10.9.9.9' })]
    for (const command of commands) caller.send(request('s1', 50, 50, command))
    const remembered = digestOf(caller.state)
    caller.send(request('s1', 51, 51, detach('nobody')))
    return { remembered, forgotten: digestOf(caller.state) }
  })
  t.not(digests[0]?.remembered, digests[1]?.remembered)
  t.equal(digests[0]?.forgotten, digests[1]?.forgotten)
  t.end()
})

function outcomes({ answers }: Readonly<Session>): (readonly [number, Outcome])[] {
  return [...answers].map(([seq, { outcome }]) => [seq, outcome])
}

type Step = { readonly id: string; readonly seq: number; readonly settledBelow: number; readonly open: boolean }
const step: fc.Arbitrary<Step> = fc.record({
  id: fc.constantFrom('a', 'b', 'c'),
  seq: fc.integer({ min: 0, max: 12 }),
  settledBelow: fc.integer({ min: 0, max: 14 }),
  open: fc.nat(9).map(n => n === 0)
})

t.test('each request is carried out at most once, and the same answers are kept as in a naive model', t => {
  const property = fc.property(fc.array(step, { maxLength: 100 }), steps => {
    const sessions = new Sessions()
    const model = new Map<string, { settled: number; answers: Map<number, Outcome> }>()
    const carriedOut = new Set<string>()
    steps.forEach(({ id, seq, settledBelow, open }, at) => {
      if (open) {
        sessions.open(id, index(at + 1))
        if (!model.has(id)) model.set(id, { settled: 1, answers: new Map() })
        return
      }
      const outcome = sessions.once(request(id, seq, settledBelow), index(at + 1), () => {
        assert.ok(!carriedOut.has(`${id} ${seq}`), 'carried out twice')
        carriedOut.add(`${id} ${seq}`)
        return numbered(at)
      })
      const own = model.get(id)
      const kept = own?.answers.get(seq)
      if (own === undefined) assert.equal(brief(outcome), 'ERR_SESSION_EXPIRED -')
      else if (kept !== undefined) assert.equal(outcome, kept)
      else if (seq < own.settled) assert.equal(brief(outcome), 'ERR_SESSION_EXPIRED -')
      else {
        assert.deepEqual(outcome, numbered(at))
        own.answers.set(seq, outcome)
        own.settled = Math.max(own.settled, Math.min(settledBelow, seq))
        for (const old of [...own.answers.keys()]) if (old < own.settled) own.answers.delete(old)
      }
      const held = new Map([...sessions.entries()].map(([name, s]) => [name, new Map(outcomes(s))]))
      assert.deepEqual(held, new Map([...model].map(([name, s]) => [name, s.answers])))
      // The hash equals that of the same answers added afresh.
      const anew = new Sessions()
      for (const [, s] of sessions.entries()) anew.restore({ ...s, answers: outcomes(s) })
      assert.deepEqual(anew.hash, sessions.hash)
    })
  })
  fc.assert(property, { numRuns: 300 })
  t.pass()
  t.end()
})

const ANSWERS = [[1, numbered(1)]] as const
const unsound: readonly { what: string; restored: Parameters<Sessions['restore']>[0] }[] = [
  { what: 'an id twice', restored: { id: 'a', lastUsed: index(9), settledBelow: 1, answers: [] } },
  { what: 'out of order', restored: { id: 'b', lastUsed: index(4), settledBelow: 1, answers: [] } },
  { what: 'two at one index', restored: { id: 'b', lastUsed: index(5), settledBelow: 1, answers: [] } },
  { what: 'a settled answer', restored: { id: 'b', lastUsed: index(9), settledBelow: 2, answers: ANSWERS } },
  {
    what: 'an answer twice',
    restored: { id: 'b', lastUsed: index(9), settledBelow: 1, answers: [...ANSWERS, ...ANSWERS] }
  },
  {
    what: 'too many answers',
    restored: {
      id: 'b',
      lastUsed: index(9),
      settledBelow: 1,
      answers: [...Array(MAX_REMEMBERED + 1).keys()].map(n => [n + 1, numbered(n)] as const)
    }
  }
]
for (const { what, restored } of unsound) {
  t.test(`a session in a snapshot is refused: ${what}`, t => {
    const sessions = new Sessions()
    sessions.restore({ id: 'a', lastUsed: index(5), settledBelow: 1, answers: [] })
    t.throws(() => sessions.restore(restored), /session [ab] /)
    t.equal(sessions.size, 1)
    t.end()
  })
}

t.test('a session in a snapshot is refused: too many sessions', t => {
  const sessions = new Sessions()
  const restore = (n: number): void =>
    sessions.restore({ id: `s${n}`, lastUsed: index(n), settledBelow: 1, answers: [] })
  for (let n = 1; n <= MAX_SESSIONS; n++) restore(n)
  t.throws(() => restore(MAX_SESSIONS + 1), new RegExp(`session s${MAX_SESSIONS + 1} `))
  t.end()
})
