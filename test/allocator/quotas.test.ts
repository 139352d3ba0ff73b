import t from 'tap'
import { decodeState, encodeState } from '#allocator/snapshot.ts'
import * as quotas from '#allocator/quotas.ts'
import { Sessions } from '#allocator/sessions.ts'
import { DISJOINT_HOST_ACCESS, RULES, type Outcome } from '#model/command.ts'
import type { LogIndex } from '#model/ids.ts'
import { parseIpv4, type Ipv4 } from '#model/ipv4.ts'
import { digestOf, hashSessions } from '#allocator/digest.ts'
import * as made from './fixtures.ts'

const index = (n: number): LogIndex => n as LogIndex
const ANSWER: Outcome = { ok: true, result: { kind: 'session' } }

/** As `Caller.ready`; its requests name the latest rules. */
function ready(hosts: number): made.Caller {
  const caller = made.Caller.ready(hosts)
  caller.rules = RULES
  return caller
}

t.test('one network more than the most is refused, and a deleted one makes room', async t => {
  const caller = ready(1)
  for (let n = 1; n < quotas.MAX_NETWORKS; n++) caller.do(made.create(`n${n}`))
  t.equal(made.brief(caller.try(made.create('one-more'))), 'ERR_LIMIT_REACHED name')
  t.equal(made.brief(caller.try(made.open('shop'))), 'ERR_LIMIT_REACHED name')
  caller.do(made.remove('n1'))
  t.equal(made.brief(caller.try(made.create('one-more'))), 'ok')
})

t.test('one endpoint more than a host may have is refused there, and attached elsewhere', async t => {
  const caller = ready(2)
  caller.do(made.create('big', { subnet: '10.0.0.0/8' }))
  for (let n = 0; n < quotas.MAX_ENDPOINTS_PER_HOST; n++) caller.do(made.attach('big', `c${n}`))
  t.equal(made.brief(caller.try(made.attach('red', 'x'))), 'ERR_LIMIT_REACHED host')
  t.equal(made.brief(caller.try(made.attach('big', 'c1'))), 'ok', 'a repeated attach')
  t.equal(made.brief(caller.try(made.attach('red', 'x', { host: 2 }))), 'ok')
})

t.test('one host more than the most is refused, and a known one may register again', async t => {
  const caller = new made.Caller()
  caller.rules = RULES
  const host = (n: number): ReturnType<typeof made.register> => {
    const one = made.makeHost(1, { name: `h${n}`, version: made.NEW })
    const peerId = `12D3KooW${'x'.repeat(38)}${(n + 100_000).toString().replaceAll('0', 'A')}` as typeof one.peerId
    return { kind: 'host-register', host: { ...one, peerId, vtep: (parseIpv4('10.0.0.1') + n) as Ipv4 } }
  }
  for (let n = 0; n < quotas.MAX_HOSTS; n++) caller.do(host(n))
  t.equal(made.brief(caller.try(host(quotas.MAX_HOSTS))), 'ERR_LIMIT_REACHED peerId')
  t.equal(made.brief(caller.try(host(7))), 'ok')
})

t.test('one namespace more than the most is refused', async t => {
  const caller = ready(1)
  for (let n = 0; n < quotas.MAX_NAMESPACES; n++) caller.do(made.map(`s${n}`, 'red'))
  t.equal(made.brief(caller.try(made.map('one-more', 'red'))), 'ERR_LIMIT_REACHED namespace')
  t.equal(made.brief(caller.try(made.open('one-more'))), 'ERR_LIMIT_REACHED namespace')
  t.equal(made.brief(caller.try(made.map('s7', 'red'))), 'ok')
})

t.test('a host that opens sessions without end loses its own, and no other host loses any', async t => {
  const sessions = new Sessions()
  sessions.open('a/1', index(1), { rules: RULES })
  sessions.open('legacy', index(2))
  for (let n = 0; n < 10_000; n++) sessions.open(`evil/${n}`, index(3 + n), { rules: RULES })
  t.equal(sessions.size, 2 + quotas.MAX_SESSIONS_PER_HOST)
  const ids = [...sessions.entries()].map(([id]) => id)
  t.ok(ids.includes('a/1') && ids.includes('legacy') && ids.includes('evil/9999'))
  t.notOk(ids.includes('evil/0'))
  t.same(sessions.hash, hashSessions(sessions))
})

t.test('a host that settles nothing loses the answers of its least recently used sessions', async t => {
  const sessions = new Sessions()
  let at = 0
  const ask = (session: string, seq: number): Outcome =>
    sessions.once(
      { session, seq, settledBelow: 0, rules: RULES, command: made.create('x') },
      index((at += 1)),
      () => ANSWER
    )
  for (const id of ['a/1', 'evil/1', 'evil/2', 'evil/3', 'evil/4'])
    sessions.open(id, index((at += 1)), { rules: RULES })
  ask('a/1', 1)
  for (let seq = 1; seq <= 4_096; seq++) for (const n of [1, 2, 3]) ask(`evil/${n}`, seq)
  const held = (id: string): number => [...sessions.entries()].find(([other]) => other === id)?.[1].answers.size ?? 0
  const total = [1, 2, 3, 4].reduce((sum, n) => sum + held(`evil/${n}`), 0)
  t.equal(total, quotas.MAX_ANSWERS_PER_HOST)
  t.equal(held('a/1'), 1)
  t.same(sessions.hash, hashSessions(sessions))
  t.match(ask('evil/1', 1), { ok: false, error: { code: 'ERR_SESSION_EXPIRED' } })
})

t.test('quotas count the same after a restart from a snapshot', async t => {
  const caller = made.Caller.ready(1)
  let at: number = caller.index
  const open = (state: typeof caller.state, n: number): void => {
    const request = { session: `evil/${n}`, seq: 0, settledBelow: 0, rules: RULES } as const
    state.apply(index((at += 1)), { ...request, command: { kind: 'session-open' } })
  }
  for (let n = 0; n < quotas.MAX_SESSIONS_PER_HOST; n++) open(caller.state, n)
  const restored = decodeState(encodeState(caller.state))
  const before = at
  open(caller.state, 999)
  at = before
  open(restored, 999)
  t.equal(digestOf(restored), digestOf(caller.state))
  t.equal(restored.sessions.size, quotas.MAX_SESSIONS_PER_HOST + 1)
})

t.test('the requests of earlier logs meet no quota, so that a replay gives the state that they gave', async t => {
  const caller = made.Caller.ready(1)
  for (let n = 0; n < quotas.MAX_NAMESPACES; n++) caller.do(made.map(`s${n}`, 'red'))
  caller.rules = DISJOINT_HOST_ACCESS
  t.equal(made.brief(caller.try(made.map('one-more', 'red'))), 'ok')
  caller.rules = RULES
  t.equal(made.brief(caller.try(made.map('two-more', 'red'))), 'ERR_LIMIT_REACHED namespace')
  const sessions = new Sessions()
  const many = quotas.MAX_SESSIONS_PER_HOST + 10
  for (let n = 0; n < many; n++) sessions.open(`h/${n}`, index(1 + n), { rules: DISJOINT_HOST_ACCESS })
  t.equal(sessions.size, many)
  const once = (seq: number, rules: number): void => {
    const id = `h/${seq % 3}`
    sessions.once(
      { session: id, seq, settledBelow: 0, rules, command: made.create('x') },
      index(many + seq),
      () => ANSWER
    )
  }
  const held = (): number => [...sessions.entries()].reduce((sum, [, { answers }]) => sum + answers.size, 0)
  const answers = quotas.MAX_ANSWERS_PER_HOST + 10
  for (let seq = 1; seq <= answers; seq++) once(seq, DISJOINT_HOST_ACCESS)
  t.equal(held(), answers)
  once(answers + 1, RULES)
  t.equal(held(), quotas.MAX_ANSWERS_PER_HOST, 'the first request by the new rules applies them')
})
