import assert from 'node:assert/strict'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { verify } from '#allocator/consistency.ts'
import { ClusterState } from '#allocator/state-machine.ts'
import { RULES, type Command, type Request } from '#model/command.ts'
import { VxmeshError, type ErrorCode } from '#model/errors.ts'
import type { LogIndex, PeerId, Term } from '#model/ids.ts'
import { parseRequest } from '#model/parse-request.ts'
import { systemClock } from '#platform/clock.ts'
import { decodeMsgpack, encodeMsgpack } from '#platform/msgpack.ts'
import { systemRandom } from '#platform/random.ts'
import { PROPOSE_METHOD, servePropose, type Applied, type ProposeHere } from '#replication/consensus/propose-rpc.ts'
import { MAX_IN_FLIGHT, WINDOW } from '#replication/consensus/proposal-window.ts'
import { DEADLINE_MS, Proposer } from '#replication/consensus/proposer.ts'
import { decodeRequest } from '#replication/codec/request-codec.ts'
import { decodeAnswers, decodeProposals, encodeAnswers } from '#replication/codec/proposal-codec.ts'
import type { Entry } from '#raft/types.ts'
import type { Rpc } from '#replication/transport/rpc.ts'
import { attach, create, peer, register } from '#test/allocator/fixtures.ts'
import { ManualClock } from '#test/lab/manual-clock.ts'
import { waitFor } from '#test/lab/wait.ts'
import { host, introduce, type Host } from '../hosts.ts'
import { frameOf } from '../proposals.ts'

/** A log with one state machine: the whole cluster, as a proposer sees it. */
class Cluster {
  readonly state = new ClusterState()
  readonly requests: Request[] = []

  /** Encodes and checks the request, as an entry of the log is. */
  commit(request: Request): Applied {
    const checked = parseRequest(decodeMsgpack(encodeMsgpack(request)))
    this.requests.push(checked)
    const index = (this.state.appliedIndex + 1) as LogIndex
    return { index, outcome: this.state.apply(index, checked) }
  }
}

/** How an attempt fails, before or after its commit; null when it succeeds. */
type Failure = { readonly code: ErrorCode; readonly committed: boolean } | null

const refuse = (code: ErrorCode): VxmeshError => new VxmeshError(code, 'refused by the test')
const SELF = 'self' as PeerId
/** Every host may request everything. */
const anybody = { isServer: () => true, admit: () => null, rules: () => RULES }
const real = { clock: systemClock, random: systemRandom, rules: () => RULES }
/** The proposers of these tests ask only their own host. */
const NO_RPC = { call: () => Promise.reject(new Error('these tests make no remote call')) } as unknown as Rpc

const term = 1 as Term

/** Proposes each request of a batch by itself. */
function each(propose: (request: Request) => Promise<Applied>): ProposeHere {
  return batch =>
    Promise.all(batch.map(async data => ({ term, ...(await propose(parseRequest(decodeRequest(data)))) })))
}

/** A proposer on a voter, whose attempts fail like this, and then succeed. */
function local(cluster: Cluster, failures: Failure[], deadlineMs = 4_500): Proposer {
  return new Proposer({
    ...real,
    rpc: NO_RPC,
    self: SELF,
    servers: () => [SELF],
    deadlineMs,
    proposeHere: each(request => {
      const failure = failures.shift() ?? null
      if (failure === null) return Promise.resolve(cluster.commit(request))
      if (failure.committed) cluster.commit(request)
      return Promise.reject(refuse(failure.code))
    })
  })
}

const AMBIGUOUS: readonly ErrorCode[] = ['ERR_PEER', 'ERR_TIMEOUT', 'ERR_NO_QUORUM', 'ERR_BUSY', 'ERR_NOT_LEADER']

for (const code of AMBIGUOUS) {
  for (const committed of [false, true]) {
    t.test(`after ${code} the same request is tried again; it was ${committed ? '' : 'not '}committed`, async t => {
      const cluster = new Cluster()
      const proposer = local(cluster, [null, { code, committed }])
      const { result, index } = await proposer.propose(create('red'))
      t.match(result, { kind: 'network', network: { name: 'red', vni: 4_096 } })
      t.equal(cluster.state.networkCount, 1)
      t.equal(index, cluster.state.appliedIndex)
      const [open, ...tries] = cluster.requests
      t.equal(open?.command.kind, 'session-open')
      t.equal(tries.length, committed ? 2 : 1)
      t.equal(new Set(tries.map(({ session, seq }) => `${session} ${seq}`)).size, 1, 'one identity')
      await t.rejects(
        proposer.propose(create('red')),
        { code: 'ERR_NETWORK_EXISTS' },
        'the next one is another request'
      )
    })
  }
}

const failure: fc.Arbitrary<Failure> = fc.option(
  fc.record({ code: fc.constantFrom<ErrorCode>('ERR_PEER', 'ERR_TIMEOUT', 'ERR_NO_QUORUM'), committed: fc.boolean() }),
  { freq: 3 }
)

t.test('however attempts fail, each command is applied once and gets its first answer', async t => {
  const property = fc.asyncProperty(fc.array(failure, { maxLength: 6 }), async failures => {
    const cluster = new Cluster()
    const proposer = local(cluster, [...failures])
    for (const command of [register(1), create('red')]) await proposer.propose(command)
    // Concurrently: their retries interleave.
    const given = await Promise.all(['a', 'b', 'c'].map(id => proposer.propose(attach('red', id))))
    const addresses = given.map(({ result }) => result.endpoint.address)
    assert.equal(new Set(addresses).size, 3)
    assert.ok(
      given.every(({ result }) => result.created),
      'the first answer'
    )
    assert.deepEqual([...cluster.state.endpoints()].map(e => e.address).sort(), [...addresses].sort())
    assert.deepEqual(verify(cluster.state), [])
    assert.equal(cluster.state.sessions.size, 1)
  })
  await fc.assert(property, { numRuns: 15 })
  t.pass()
})

t.test('an error that no retry can fix is returned at once, under its own code', async t => {
  for (const code of ['ERR_STORAGE', 'ERR_INVALID', 'ERR_INTERNAL', 'ERR_TOO_LARGE'] as const) {
    const cluster = new Cluster()
    const failures: Failure[] = [null, { code, committed: false }, null]
    await t.rejects(local(cluster, failures).propose(create('red')), { code })
    t.equal(failures.length, 1, 'and not tried again')
    t.equal(cluster.state.networkCount, 0)
  }
})

t.test('a refusal by the state machine is an error that names its field', async t => {
  const proposer = local(new Cluster(), [])
  await proposer.propose(create('red'))
  await t.rejects(proposer.propose(create('red')), { code: 'ERR_NETWORK_EXISTS', field: 'name' })
  await t.rejects(proposer.propose(attach('red', 'c')), { code: 'ERR_HOST_NOT_REGISTERED', field: 'host' })
})

const unsound: readonly { what: string; command: unknown; field: string }[] = [
  { what: 'a rate below zero', command: { ...create('red'), egressRate: -1 }, field: 'egressRate' },
  { what: 'a name of capitals', command: { ...create('red'), name: 'RED' }, field: 'name' },
  {
    what: 'a VTEP of 0',
    command: { kind: 'host-register', host: { ...register(1).host, vtep: 0 } },
    field: 'vtep'
  },
  { what: 'an endless text', command: { ...attach('red', 'c'), name: 'x'.repeat(1_000) }, field: 'name' },
  { what: 'no command', command: null, field: 'command' }
]
for (const { what, command, field } of unsound) {
  t.test(`a command that no replica could apply is refused before it is sent, by the leader too: ${what}`, async t => {
    const cluster = new Cluster()
    await t.rejects(local(cluster, []).propose(command as Command), { code: 'ERR_INVALID', field })
    t.same(cluster.requests, [])
  })
}

t.test('without a leader a proposal ends as ERR_NO_QUORUM within five seconds', async t => {
  const contractMs = 5_000
  t.equal(Math.max(DEADLINE_MS, contractMs), contractMs)
  for (const code of AMBIGUOUS.filter(code => code !== 'ERR_BUSY')) {
    const cluster = new Cluster()
    const never = Array<Failure>(10_000).fill({ code, committed: false })
    await t.rejects(local(cluster, never, 120).propose(create('red')), { code: 'ERR_NO_QUORUM', cause: { code } })
    t.same(cluster.requests, [])
  }
})

t.test('a proposal that every attempt refused as too many ends as ERR_BUSY: it was not made', async t => {
  const cluster = new Cluster()
  const never = Array<Failure>(10_000).fill({ code: 'ERR_BUSY', committed: false })
  await t.rejects(local(cluster, never, 120).propose(create('red')), { code: 'ERR_BUSY' })
  t.same(cluster.requests, [])
  const [opened, unknown] = [null, { code: 'ERR_PEER', committed: false } as const]
  const once = local(cluster, [opened, unknown, ...never], 120)
  await t.rejects(once.propose(create('red')), { code: 'ERR_NO_QUORUM' }, 'unless one attempt may have made it')
})

t.test('without a server, or without an answer, a proposal ends as ERR_NO_QUORUM too', async t => {
  const options = { ...real, rpc: NO_RPC, self: SELF, deadlineMs: 80 }
  const hanging = { ...options, servers: () => [SELF], proposeHere: () => new Promise<never>(() => undefined) }
  const alone = { ...options, servers: () => [], proposeHere: () => Promise.reject(refuse('ERR_NOT_LEADER')) }
  for (const stuck of [hanging, alone])
    await t.rejects(new Proposer(stuck).propose(create('red')), { code: 'ERR_NO_QUORUM' })
})

t.test('after ERR_NO_QUORUM the proposer works again', async t => {
  const cluster = new Cluster()
  const failures = Array<Failure>(100).fill({ code: 'ERR_NO_QUORUM', committed: false })
  const proposer = local(cluster, failures, 120)
  await t.rejects(proposer.propose(create('red')), { code: 'ERR_NO_QUORUM' })
  failures.length = 0
  await proposer.propose(create('red'))
  t.equal(cluster.state.networkCount, 1)
})

t.test('an expired session is opened again when the command cannot have been applied', async t => {
  const cluster = new Cluster()
  const proposer = local(cluster, [])
  await proposer.propose(create('red'))
  for (let n = 0; n < 4_096; n++)
    cluster.commit({ session: `s${n}`, seq: 0, settledBelow: 0, command: { kind: 'session-open' } })
  t.match(await proposer.propose(create('blue')), { result: { kind: 'network', network: { name: 'blue' } } })
  t.equal(new Set(cluster.requests.filter(r => !/^s[0-9]/.test(r.session)).map(r => r.session)).size, 2)
})

t.test('a session that expires between two attempts is an error: the first attempt may have been applied', async t => {
  const cluster = new Cluster()
  let lose = false
  const proposer = new Proposer({
    ...real,
    rpc: NO_RPC,
    self: SELF,
    servers: () => [SELF],
    proposeHere: each(request => {
      const applied = cluster.commit(request)
      if (!lose) return Promise.resolve(applied)
      lose = false
      for (let n = 0; n < 4_096; n++)
        cluster.commit({ session: `s${n}`, seq: 0, settledBelow: 0, command: { kind: 'session-open' } })
      return Promise.reject(refuse('ERR_PEER'))
    })
  })
  await proposer.propose(create('red'))
  lose = true
  await t.rejects(proposer.propose(create('blue')), { code: 'ERR_SESSION_EXPIRED' })
  t.equal(cluster.state.networkCount, 2, 'it was applied')
  t.equal(cluster.requests.filter(r => r.command.kind === 'network-create').length, 3, 'and no third attempt was made')
})

t.test("a proposal that waits for a session to open is not bound by the opener's deadline", async t => {
  const cluster = new Cluster()
  let tries = 0
  let late: Promise<unknown> = Promise.resolve(null)
  let open = false
  const proposer = new Proposer({
    ...real,
    rpc: NO_RPC,
    self: SELF,
    servers: () => [SELF],
    deadlineMs: 1_000,
    proposeHere: each(request => {
      tries += 1
      // The pauses are short at first: the second caller has a good part of a second more than the first.
      if (tries === 6) late = proposer.propose(create('blue'))
      return open ? Promise.resolve(cluster.commit(request)) : Promise.reject(refuse('ERR_NO_QUORUM'))
    })
  })
  await t.rejects(proposer.propose(create('red')), { code: 'ERR_NO_QUORUM' })
  open = true
  t.match(await late, { result: { kind: 'network', network: { name: 'blue' } } })
})

t.test('requests are settled in order, and the number in flight is bounded', async t => {
  const cluster = new Cluster()
  const waiting: (() => void)[] = []
  const proposer = new Proposer({
    ...real,
    rpc: NO_RPC,
    self: SELF,
    servers: () => [SELF],
    proposeHere: each(async request => {
      if (request.seq > 1) await new Promise<void>(resolve => waiting.push(resolve))
      return cluster.commit(request)
    })
  })
  await proposer.propose(create('red'))
  const many = [...Array(MAX_IN_FLIGHT).keys()].map(() => proposer.propose(create('red')).catch((err: unknown) => err))
  await waitFor('the window is full', () => waiting.length === WINDOW)
  await t.rejects(proposer.propose(create('blue')), { code: 'ERR_BUSY' })
  const all = Promise.all(many)
  for (let gone = 0; gone < MAX_IN_FLIGHT;) {
    const begun = waiting.slice(gone)
    gone += begun.length
    for (const go of begun.toReversed()) go()
    await waitFor('the next ones', () => waiting.length > gone || gone === MAX_IN_FLIGHT)
  }
  const answers = (await all) as VxmeshError[]
  t.ok(
    answers.every(({ code }) => code === 'ERR_NETWORK_EXISTS'),
    'each was answered'
  )
  t.ok(cluster.requests.every(({ seq, settledBelow }) => settledBelow <= seq))
  const next = proposer.propose(create('blue'))
  await waitFor('the next one', () => waiting.length === MAX_IN_FLIGHT + 1)
  waiting.at(-1)?.()
  await next
  t.equal(cluster.requests.at(-1)?.settledBelow, 2_050, 'all before it are settled')
})

t.test(
  'what waits for its turn while no leader answers is refused unsent; what was sent has an unknown outcome',
  async t => {
    const cluster = new Cluster()
    const manual = new ManualClock()
    const sent = new Set<number>()
    const proposer = new Proposer({
      clock: manual.clock,
      random: systemRandom,
      rules: () => RULES,
      rpc: NO_RPC,
      self: SELF,
      servers: () => [SELF],
      proposeHere: each(request => {
        if (request.command.kind === 'session-open') return Promise.resolve(cluster.commit(request))
        sent.add(request.seq)
        return new Promise<never>(() => undefined)
      })
    })
    const many = [...Array(WINDOW + 100).keys()].map(n =>
      proposer.propose(create(`n${n}`)).then(
        () => 'made',
        (err: unknown) => (err as VxmeshError).code
      )
    )
    await manual.advance(DEADLINE_MS)
    const outcomes = await Promise.all(many)
    t.same(outcomes, [...Array<string>(WINDOW).fill('ERR_NO_QUORUM'), ...Array<string>(100).fill('ERR_BUSY')])
    t.equal(sent.size, WINDOW)
  }
)

t.test('a session whose oldest request gets no answer takes no more than the state machine remembers', async t => {
  const cluster = new Cluster()
  const manual = new ManualClock()
  const isSlow = ({ command }: Request): boolean => command.kind === 'network-create' && command.name === 'slow'
  let lose = (): void => undefined
  const proposer = new Proposer({
    clock: manual.clock,
    random: systemRandom,
    rules: () => RULES,
    rpc: NO_RPC,
    self: SELF,
    servers: () => [SELF],
    proposeHere: each(request => {
      const applied = cluster.commit(request)
      const isFirst = cluster.requests.filter(isSlow).length === 1
      if (!isSlow(request) || !isFirst) return Promise.resolve(applied)
      return new Promise((_, reject) => (lose = () => reject(refuse('ERR_PEER'))))
    })
  })
  await proposer.propose(create('red'))
  const slow = proposer.propose(create('slow'))
  // In a frame of its own.
  await new Promise(resolve => setImmediate(resolve))
  for (let n = 0; n < 9_000; n++) await proposer.propose(create('red')).catch(() => undefined)
  const sessions = new Set(cluster.requests.map(({ session }) => session))
  t.ok(sessions.size > 1 && sessions.size < 9, `${sessions.size} sessions`)
  lose()
  await manual.advance(1_000)
  t.match(await slow, { result: { network: { name: 'slow' } } }, 'the answer to its first attempt is still known')
  t.equal(new Set(cluster.requests.filter(isSlow).map(({ session, seq }) => `${session} ${seq}`)).size, 1)
})

type Remote = { readonly asker: Host; readonly one: Host; readonly two: Host; readonly proposer: Proposer }

/** A client and two servers; the test decides what each server does with a proposal. */
async function remote(t: Test): Promise<Remote> {
  const [asker, one, two] = await Promise.all([host(t), host(t), host(t)])
  introduce(asker, one)
  introduce(asker, two)
  const proposer = new Proposer({
    ...real,
    rpc: asker.rpc,
    self: asker.peer,
    servers: () => [one.peer, two.peer],
    proposeHere: () => Promise.reject(refuse('ERR_NOT_LEADER'))
  })
  return { asker, one, two, proposer }
}

function serve(on: Host, propose: ((request: Request) => Promise<Applied>) | null): void {
  servePropose(on.rpc, { ...anybody, proposeHere: () => (propose === null ? null : each(propose)) })
}

t.test('the leader is found by a redirect, and asked first from then on', async t => {
  const { one, two, proposer } = await remote(t)
  const cluster = new Cluster()
  let asked = 0
  serve(one, () => {
    asked += 1
    return Promise.reject(new VxmeshError('ERR_NOT_LEADER', 'x', { context: { leader: two.peer } }))
  })
  serve(two, request => Promise.resolve(cluster.commit(request)))
  for (const name of ['a', 'b', 'c']) await proposer.propose(create(name))
  t.equal(cluster.state.networkCount, 3)
  t.equal(asked, 1)
})

t.test('a commit notice comes with the answer; a malformed one counts as a lost answer', async t => {
  const { asker, one, proposer: plain } = await remote(t)
  const cluster = new Cluster()
  const notice = { raft: [new Uint8Array([1, 2]), new Uint8Array([3])], feed: [new Uint8Array([4])] }
  const received: unknown[] = []
  const proposeHere = each(request => Promise.resolve(cluster.commit(request)))
  servePropose(one.rpc, {
    ...anybody,
    proposeHere: () => proposeHere,
    noticeFor: to => (to === asker.peer ? notice : { raft: [], feed: [] })
  })
  let malformed = 1
  const proposer = new Proposer({
    ...real,
    rpc: asker.rpc,
    self: asker.peer,
    servers: () => [one.peer],
    proposeHere: () => Promise.reject(refuse('ERR_NOT_LEADER')),
    onNotice: (leader, { raft, feed }) => {
      if (malformed-- > 0) throw refuse('ERR_PEER')
      received.push([leader, ...[raft, feed].map(frames => frames.map(frame => [...frame]))])
    }
  })
  await proposer.propose(create('a'))
  t.strictSame(received[0], [one.peer, [[1, 2], [3]], [[4]]])
  t.equal(cluster.state.networkCount, 1)
  t.equal(proposer.retries, 1, 'the request was sent again, under its own identity')
  await plain.propose(create('b'))
  t.equal(cluster.state.networkCount, 2, 'a proposer that takes no notice is answered too')
})

t.test('a server lost in the middle of a request is replaced by another, under the same identity', async t => {
  const { one, two, proposer } = await remote(t)
  const cluster = new Cluster()
  serve(one, request => {
    const applied = cluster.commit(request)
    return request.seq === 0 ? Promise.resolve(applied) : one.mesh.stop().then(() => applied)
  })
  serve(two, request => Promise.resolve(cluster.commit(request)))
  t.match(await proposer.propose(create('red')), { result: { kind: 'network', network: { vni: 4_096 } } })
  t.equal(cluster.state.networkCount, 1)
  t.equal(cluster.requests.filter(({ seq }) => seq === 1).length, 2)
})

t.test('another leader ends the wait for one that does not answer, under the same identity', async t => {
  const { one, two, proposer } = await remote(t)
  const cluster = new Cluster()
  let hanging = 0
  serve(one, request => {
    if (request.seq === 0) return Promise.resolve(cluster.commit(request))
    hanging += 1
    return new Promise(() => undefined)
  })
  serve(two, request => Promise.resolve(cluster.commit(request)))
  const proposals = ['a', 'b', 'c'].map(name => proposer.propose(create(name)))
  await waitFor('all wait', () => hanging === 3)
  proposer.hint(one.peer)
  proposer.hint(two.peer)
  await Promise.all(proposals)
  t.equal(cluster.state.networkCount, 3)
  t.equal(proposer.retries, 3, 'each was sent once more')
})

t.test('a known leader ends the back-off', async t => {
  const cluster = new Cluster()
  let led = false
  let refused = 0
  const proposer = new Proposer({
    ...real,
    rpc: NO_RPC,
    self: SELF,
    servers: () => (led ? [] : [SELF]),
    proposeHere: each(request => {
      if (led) return Promise.resolve(cluster.commit(request))
      refused += 1
      return Promise.reject(refuse('ERR_NOT_LEADER'))
    })
  })
  const proposal = proposer.propose(create('red'))
  await waitFor('it backs off', () => refused > 2)
  led = true
  // Only a hint can help: there is no server left to ask.
  proposer.hint(SELF)
  t.match(await proposal, { result: { kind: 'network' } })
})

const index = 1 as LogIndex
const OPENED = { ok: true, result: { kind: 'session' } } as const
const unsure = (outcome: unknown): unknown => ({ answers: encodeAnswers([{ index, outcome: outcome as never }]), term })
const malformedAnswers: readonly { what: string; answer: unknown }[] = [
  ...[null, 7, 'x', [], {}].map(answer => ({ what: JSON.stringify(answer), answer })),
  ...[null, 7, 'x', [], {}].map(answers => ({ what: `answers ${JSON.stringify(answers)}`, answer: { answers } })),
  ...[null, 7, {}, { ok: true }, { ok: true, result: null }, { ok: false }].map(outcome => {
    return { what: `an outcome ${JSON.stringify(outcome)}`, answer: unsure(outcome) }
  }),
  {
    what: 'a result of another kind than the command has',
    answer: unsure({ ok: true, result: { kind: 'namespace' } })
  },
  { what: 'an error without a code', answer: { answers: encodeAnswers([{ error: {} as never }]) } },
  { what: 'no outcome, although it is wanted', answer: { answers: encodeAnswers([{ index, own: true }]), term } },
  { what: 'no term', answer: { answers: encodeAnswers([{ index, outcome: OPENED }]) } },
  { what: 'half an index', answer: { answers: new Uint8Array([3, 0, 0]), term } },
  { what: 'no answer', answer: { answers: new Uint8Array() } },
  { what: 'half an answer', answer: { answers: new Uint8Array([1, 0, 0]) } },
  { what: 'an answer of an unknown kind', answer: { answers: new Uint8Array([9, 0, 0, 0, 0]) } },
  { what: 'a leader id that is malformed', answer: { leader: 'nonsense' } },
  { what: 'a leader of 7', answer: { leader: 7 } },
  { what: 'a leader that is unknown', answer: { leader: peer(9) } }
]
for (const { what, answer } of malformedAnswers) {
  t.test(`after a malformed answer the next server is asked: ${what}`, async t => {
    const { one, two, proposer } = await remote(t)
    const cluster = new Cluster()
    one.rpc.register(PROPOSE_METHOD, () => Promise.resolve(answer))
    serve(two, request => Promise.resolve(cluster.commit(request)))
    t.match(await proposer.propose(create('red')), { result: { kind: 'network' } })
    t.equal(cluster.state.networkCount, 1)
  })
}

t.test('too few answers to a frame count as none', async t => {
  const { one, two, proposer } = await remote(t)
  const cluster = new Cluster()
  serve(one, request => Promise.resolve(cluster.commit(request)))
  await proposer.propose(create('first'))
  one.rpc.register(PROPOSE_METHOD, body => {
    const [data] = decodeProposals(body).requests
    const { outcome } = cluster.commit(parseRequest(decodeRequest(data ?? new Uint8Array())))
    return Promise.resolve({ answers: encodeAnswers([{ index, outcome }]), term })
  })
  serve(two, request => Promise.resolve(cluster.commit(request)))
  await Promise.all(['a', 'b', 'c'].map(name => proposer.propose(create(name))))
  t.equal(cluster.state.networkCount, 4)
})

t.test('a host that is not a server redirects, and malformed requests are refused each by itself', async t => {
  const { asker, one, two } = await remote(t)
  const cluster = new Cluster()
  serve(one, null)
  serve(two, request => Promise.resolve(cluster.commit(request)))
  const call = (to: Host, body: unknown): Promise<unknown> =>
    asker.rpc.call({ peer: to.peer, method: PROPOSE_METHOD, body, timeoutMs: 5_000 })
  const request = { session: 's', seq: 0, settledBelow: 0, command: { kind: 'session-open' } }
  t.same(await call(one, frameOf(request)), { leader: '' })
  const unsound = [null, 7, {}, { ...request, seq: -1 }, { ...request, command: { kind: 'x' } }]
  const { answers } = (await call(two, frameOf(...unsound, request))) as { answers: Uint8Array }
  const found = decodeAnswers(answers)
  t.match(found, [...unsound.map(() => ({ error: { code: 'ERR_INVALID' } })), { outcome: { ok: true } }])
  t.equal(cluster.requests.length, 1)
})

for (const body of [
  null,
  7,
  'x',
  request0(),
  ...[[], [1], [2, 0, 0, 0, 0], [1, 0, 0, 0, 9, 1]].map(bytes => Uint8Array.from(bytes))
]) {
  t.test(`a frame that holds no proposals is refused: ${JSON.stringify(body)}`, async t => {
    const { asker, one } = await remote(t)
    serve(one, () => Promise.reject(new Error('nothing is proposed')))
    const call = asker.rpc.call({ peer: one.peer, method: PROPOSE_METHOD, body, timeoutMs: 5_000 })
    await t.rejects(call, { code: 'ERR_PEER', message: /malformed/ })
  })
}

function request0(): unknown {
  return { session: 's', seq: 0, settledBelow: 0, command: { kind: 'session-open' } }
}

t.test('a host of the version before is told that there is no such request', async t => {
  const { asker, one } = await remote(t)
  serve(one, () => Promise.reject(new Error('nothing is proposed')))
  const call = asker.rpc.call({ peer: one.peer, method: 'propose', body: request0(), timeoutMs: 5_000 })
  await t.rejects(call, { code: 'ERR_UNSUPPORTED', message: /no such request: propose/ })
})

t.test('a peer has a bounded number of proposals in flight at the leader', async t => {
  const { asker, one } = await remote(t)
  let release = (): void => undefined
  const released = new Promise<void>(resolve => (release = resolve))
  const cluster = new Cluster()
  serve(one, async request => {
    await released
    return cluster.commit(request)
  })
  const call = (count: number): Promise<unknown> => {
    const body = frameOf(...Array<unknown>(count).fill(request0()))
    return asker.rpc.call({ peer: one.peer, method: PROPOSE_METHOD, body, timeoutMs: 5_000 })
  }
  const waiting = [1_024, 1_024, 1_024, 1_024].map(call)
  await t.rejects(call(1), { code: 'ERR_BUSY' })
  await t.rejects(call(1_025), { code: 'ERR_PEER' }, 'nor may a frame be larger')
  release()
  await Promise.all(waiting)
  await call(1)
  t.equal(cluster.requests.length, 4_097)
})

t.test('what is proposed in one turn travels in one frame, and meanwhile more gathers', async t => {
  const { one, proposer } = await remote(t)
  const cluster = new Cluster()
  const frames: number[] = []
  const waiting: (() => void)[] = []
  let hold = false
  servePropose(one.rpc, {
    ...anybody,
    proposeHere: () => async batch => {
      frames.push(batch.length)
      if (hold) await new Promise<void>(resolve => waiting.push(resolve))
      return batch.map(data => ({ term, ...cluster.commit(parseRequest(decodeRequest(data))) }))
    }
  })
  await proposer.propose(create('first'))
  frames.length = 0
  await Promise.all(Array.from({ length: 100 }, (_, n) => proposer.propose(create(`a${n}`))))
  t.same(frames, [100])
  hold = true
  const rest: Promise<unknown>[] = []
  for (let n = 0; n < 20; n++) {
    rest.push(proposer.propose(create(`b${n}`)))
    await new Promise(resolve => setImmediate(resolve))
  }
  await waitFor('four are in flight', () => waiting.length === 4)
  hold = false
  for (const go of waiting) go()
  await Promise.all(rest)
  t.equal(cluster.state.networkCount, 121)
  t.ok(frames.length < 10, `${frames.length - 1} frames for 20 proposals`)
})

t.test('a frame that is lost is proposed again one by one, under the same identities', async t => {
  const { one, two, proposer } = await remote(t)
  const cluster = new Cluster()
  const frames: number[] = []
  serve(one, request => Promise.resolve(cluster.commit(request)))
  await proposer.propose(create('first'))
  let losses = 1
  const serveCounted = (on: Host): void => {
    servePropose(on.rpc, {
      ...anybody,
      proposeHere: () => batch => {
        frames.push(batch.length)
        const applied = batch.map(data => ({ term, ...cluster.commit(parseRequest(decodeRequest(data))) }))
        return losses-- > 0 ? Promise.reject(refuse('ERR_NO_QUORUM')) : Promise.resolve(applied)
      }
    })
  }
  serveCounted(one)
  serveCounted(two)
  const names = ['a', 'b', 'c', 'd']
  const proposed = await Promise.all(names.map(name => proposer.propose(create(name))))
  t.same(frames, [4, 1, 1, 1, 1])
  t.same(
    proposed.map(({ result }) => result.network.name),
    names
  )
  t.equal(proposer.retries, 4)
  const sent = cluster.requests.filter(({ command }) => command.kind === 'network-create')
  t.equal(new Set(sent.map(({ seq }) => seq)).size, 5)
})

/** A client host that applies what is committed, and its leader. */
async function applying(t: Test): Promise<Remote & { readonly cluster: Cluster; readonly committed: Entry[] }> {
  const found = await remote(t)
  const { asker, one } = found
  const cluster = new Cluster()
  serve(one, request => Promise.resolve(cluster.commit(request)))
  const committed: Entry[] = []
  const proposer = new Proposer({
    ...real,
    rpc: asker.rpc,
    self: asker.peer,
    servers: () => [one.peer],
    proposeHere: () => Promise.reject(refuse('ERR_NOT_LEADER')),
    keepsUp: () => true,
    onCommitted: (_leader, _term, entries) => {
      committed.push(...entries)
      return true
    }
  })
  await proposer.propose(create('first'))
  return { ...found, proposer, cluster, committed }
}

const NAMES = ['a', 'b', 'c', 'd', 'e', 'f']

t.test('a host that applies what is committed finds the outcomes of many proposals itself', async t => {
  const { proposer, committed } = await applying(t)
  const proposals = NAMES.map(name => proposer.propose(create(name)))
  await waitFor('all are committed', () => committed.length === NAMES.length)
  // It was at the same state.
  const copy = new ClusterState()
  copy.apply(index, { session: 'x', seq: 0, settledBelow: 0, command: { kind: 'session-open' } })
  for (const { index: at, data } of committed) {
    const request = parseRequest(decodeRequest(data))
    if (at === committed[0]?.index) {
      copy.skip(2 as LogIndex)
      copy.sessions.open(request.session, 2 as LogIndex)
    }
    proposer.applied(request, { index: at, outcome: copy.apply(at, request) })
  }
  const found = await Promise.all(proposals)
  t.same(
    found.map(({ result, index: at }) => [result.network.name, at]),
    NAMES.map((name, n) => [name, n + 3])
  )
  t.equal(proposer.retries, 0)
})

t.test(
  'a host that does not get to apply what is committed asks for the outcomes, under the same identities',
  async t => {
    const { proposer, cluster, committed } = await applying(t)
    const found = await Promise.all(NAMES.map(name => proposer.propose(create(name))))
    t.same(
      found.map(({ result }) => result.network.name),
      NAMES
    )
    t.equal(committed.length, NAMES.length, 'the answers left them to this host')
    t.equal(proposer.retries, NAMES.length)
    t.equal(cluster.state.networkCount, NAMES.length + 1)
  }
)

t.test('what was applied here is no answer for other sessions or other numbers', async t => {
  const { proposer, committed } = await applying(t)
  const proposals = NAMES.map(name => proposer.propose(create(name)))
  await waitFor('all are committed', () => committed.length === NAMES.length)
  const [first] = committed.map(({ data }) => parseRequest(decodeRequest(data)))
  if (first === undefined) throw new Error('nothing was committed')
  const wrong = { index, outcome: OPENED }
  proposer.applied({ ...first, session: 'another' }, wrong)
  proposer.applied({ ...first, seq: 1_000 }, wrong)
  const found = await Promise.all(proposals)
  t.same(
    found.map(({ result }) => result.network.name),
    NAMES
  )
})

t.test('a host for which entries of others are missing is sent the outcomes for a while', async t => {
  const { asker, one } = await remote(t)
  const cluster = new Cluster()
  serve(one, request => Promise.resolve(cluster.commit(request)))
  let left = 0
  const proposer = new Proposer({
    ...real,
    rpc: asker.rpc,
    self: asker.peer,
    servers: () => [one.peer],
    proposeHere: () => Promise.reject(refuse('ERR_NOT_LEADER')),
    keepsUp: () => true,
    onCommitted: () => {
      left += 1
      return false
    }
  })
  await proposer.propose(create('first'))
  const retriesAfter = async (prefix: string): Promise<number> => {
    await Promise.all(NAMES.map(name => proposer.propose(create(`${prefix}-${name}`))))
    return proposer.retries
  }
  const once = await retriesAfter('x')
  t.equal(left, 1)
  t.equal(await retriesAfter('y'), once, 'these were answered at once')
  t.equal(left, 1)
})

t.test('a proposal that is refused does not keep the others of its frame out of the log', async t => {
  const { asker, one } = await remote(t)
  const cluster = new Cluster()
  servePropose(one.rpc, {
    isServer: () => false,
    rules: () => RULES,
    admit: command => {
      const isEvil = command.kind === 'network-create' && command.name === 'evil'
      return isEvil ? { ok: false, error: { code: 'ERR_NOT_ALLOWED', message: 'no' } } : null
    },
    proposeHere: () => each(request => Promise.resolve(cluster.commit(request)))
  })
  const proposer = new Proposer({
    ...real,
    rpc: asker.rpc,
    self: asker.peer,
    servers: () => [one.peer],
    proposeHere: () => Promise.reject(refuse('ERR_NOT_LEADER'))
  })
  await proposer.propose(create('first'))
  const proposals = ['a', 'evil', 'b'].map(name => proposer.propose(create(name)))
  const found = await Promise.allSettled(proposals)
  t.match(found, [
    { value: { result: { network: { name: 'a' } } } },
    { reason: { code: 'ERR_NOT_ALLOWED' } },
    { value: { result: { network: { name: 'b' } } } }
  ])
  t.ok(
    cluster.requests.every(({ by, session }) => by === asker.peer && session.startsWith(`${asker.peer}/`)),
    'a host that takes itself for a server is corrected'
  )
})

t.test('stopping the agent fails a proposal in flight at once, and refuses new ones', async t => {
  const never = new Promise<never>(() => undefined)
  const proposer = new Proposer({ ...real, rpc: NO_RPC, self: SELF, servers: () => [SELF], proposeHere: () => never })
  const waiting = t.rejects(proposer.propose(create('red')), { code: 'ERR_AGENT_UNREACHABLE' })
  await new Promise(resolve => setImmediate(resolve))
  const since = performance.now()
  proposer.stop()
  await waiting
  await t.rejects(proposer.propose(create('blue')), { code: 'ERR_AGENT_UNREACHABLE' })
  t.ok(performance.now() - since < DEADLINE_MS, 'no proposal waited for its deadline')
})
