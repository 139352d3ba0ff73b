import assert from 'node:assert/strict'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { verify } from '#allocator/consistency.ts'
import { ClusterState } from '#allocator/state-machine.ts'
import type { Command, Request } from '#model/command.ts'
import { VxmeshError, type ErrorCode } from '#model/errors.ts'
import type { LogIndex, PeerId } from '#model/ids.ts'
import { parseRequest } from '#model/parse-request.ts'
import { systemClock } from '#platform/clock.ts'
import { decodeMsgpack, encodeMsgpack } from '#platform/msgpack.ts'
import { systemRandom } from '#platform/random.ts'
import { servePropose, type Applied } from '#replication/consensus/propose-rpc.ts'
import { DEADLINE_MS, Proposer } from '#replication/consensus/proposer.ts'
import type { Rpc } from '#replication/transport/rpc.ts'
import { attach, create, peer, register } from '#test/allocator/fixtures.ts'
import { waitFor } from '#test/lab/wait.ts'
import { host, introduce, type Host } from '../hosts.ts'

/** A log with one state machine behind it: what a cluster comes to for those who propose. */
class Cluster {
  readonly state = new ClusterState()
  readonly requests: Request[] = []

  /** Through bytes and the check, as an entry of the log. */
  commit(request: Request): Applied {
    const checked = parseRequest(decodeMsgpack(encodeMsgpack(request)))
    this.requests.push(checked)
    const index = (this.state.appliedIndex + 1) as LogIndex
    return { index, outcome: this.state.apply(index, checked) }
  }
}

/** What becomes of an attempt: an error before it was committed, or after it, or none. */
type Fate = { readonly code: ErrorCode; readonly committed: boolean } | null

const refuse = (code: ErrorCode): VxmeshError => new VxmeshError(code, 'as the test has it')
const SELF = 'self' as PeerId
const real = { clock: systemClock, random: systemRandom }
/** The proposers of these tests ask only their own host. */
const NO_RPC = { call: () => Promise.reject(new Error('nobody is called here')) } as unknown as Rpc

/** A proposer that asks its own host, whose attempts come to these fates, then to none. */
function local(cluster: Cluster, fates: Fate[], deadlineMs = 4_500): Proposer {
  return new Proposer({
    ...real,
    rpc: NO_RPC,
    self: SELF,
    servers: () => [SELF],
    deadlineMs,
    proposeHere: request => {
      const fate = fates.shift() ?? null
      if (fate === null) return Promise.resolve(cluster.commit(request))
      if (fate.committed) cluster.commit(request)
      return Promise.reject(refuse(fate.code))
    }
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

const fate: fc.Arbitrary<Fate> = fc.option(
  fc.record({ code: fc.constantFrom<ErrorCode>('ERR_PEER', 'ERR_TIMEOUT', 'ERR_NO_QUORUM'), committed: fc.boolean() }),
  { freq: 3 }
)

t.test('whatever attempts come to, each command is carried out once, and its answer is the first one', async t => {
  const property = fc.asyncProperty(fc.array(fate, { maxLength: 6 }), async fates => {
    const cluster = new Cluster()
    const proposer = local(cluster, [...fates])
    for (const command of [register(1), create('red')]) await proposer.propose(command)
    // At once: their retries mix.
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

t.test('what no retry can mend is said at once, under its own code', async t => {
  for (const code of ['ERR_STORAGE', 'ERR_INVALID', 'ERR_INTERNAL', 'ERR_TOO_LARGE'] as const) {
    const cluster = new Cluster()
    const fates: Fate[] = [null, { code, committed: false }, null]
    await t.rejects(local(cluster, fates).propose(create('red')), { code })
    t.equal(fates.length, 1, 'and not tried again')
    t.equal(cluster.state.networkCount, 0)
  }
})

t.test('a refusal of the state machine is an error with its field', async t => {
  const proposer = local(new Cluster(), [])
  await proposer.propose(create('red'))
  await t.rejects(proposer.propose(create('red')), { code: 'ERR_NETWORK_EXISTS', field: 'name' })
  await t.rejects(proposer.propose(attach('red', 'c')), { code: 'ERR_HOST_NOT_REGISTERED', field: 'host' })
})

const unsound: readonly { what: string; command: unknown; field: string }[] = [
  { what: 'a rate below zero', command: { ...create('red'), egressRate: -1 }, field: 'egressRate' },
  { what: 'a name of capitals', command: { ...create('red'), name: 'RED' }, field: 'name' },
  {
    what: 'a VTEP that is none',
    command: { kind: 'host-register', host: { ...register(1).host, vtep: 0 } },
    field: 'vtep'
  },
  { what: 'a text without end', command: { ...attach('red', 'c'), name: 'x'.repeat(1_000) }, field: 'name' },
  { what: 'no command', command: null, field: 'command' }
]
for (const { what, command, field } of unsound) {
  t.test(
    `what every replica would choke on is refused before it is sent, also by the leader itself: ${what}`,
    async t => {
      const cluster = new Cluster()
      await t.rejects(local(cluster, []).propose(command as Command), { code: 'ERR_INVALID', field })
      t.same(cluster.requests, [])
    }
  )
}

t.test('without a leader there is ERR_NO_QUORUM, within five seconds', async t => {
  const contractMs = 5_000
  t.equal(Math.max(DEADLINE_MS, contractMs), contractMs)
  for (const code of AMBIGUOUS) {
    const cluster = new Cluster()
    const never = Array<Fate>(10_000).fill({ code, committed: false })
    await t.rejects(local(cluster, never, 120).propose(create('red')), { code: 'ERR_NO_QUORUM', cause: { code } })
    t.same(cluster.requests, [])
  }
})

t.test('without any server there is ERR_NO_QUORUM too, and so is an answer that does not come', async t => {
  const options = { ...real, rpc: NO_RPC, self: SELF, deadlineMs: 80 }
  const hanging = { ...options, servers: () => [SELF], proposeHere: () => new Promise<Applied>(() => undefined) }
  const alone = { ...options, servers: () => [], proposeHere: () => Promise.reject(refuse('ERR_NOT_LEADER')) }
  for (const each of [hanging, alone])
    await t.rejects(new Proposer(each).propose(create('red')), { code: 'ERR_NO_QUORUM' })
})

t.test('after ERR_NO_QUORUM the proposer is as good as new', async t => {
  const cluster = new Cluster()
  const fates = Array<Fate>(100).fill({ code: 'ERR_NO_QUORUM', committed: false })
  const proposer = local(cluster, fates, 120)
  await t.rejects(proposer.propose(create('red')), { code: 'ERR_NO_QUORUM' })
  fates.length = 0
  await proposer.propose(create('red'))
  t.equal(cluster.state.networkCount, 1)
})

t.test('a session that was forgotten is opened anew when nothing can have been carried out', async t => {
  const cluster = new Cluster()
  const proposer = local(cluster, [])
  await proposer.propose(create('red'))
  for (let n = 0; n < 4_096; n++)
    cluster.commit({ session: `s${n}`, seq: 0, settledBelow: 0, command: { kind: 'session-open' } })
  t.match(await proposer.propose(create('blue')), { result: { kind: 'network', network: { name: 'blue' } } })
  t.equal(new Set(cluster.requests.filter(r => !r.session.startsWith('s')).map(r => r.session)).size, 2)
})

t.test(
  'a session that was forgotten between two attempts is an error: the first may have been carried out',
  async t => {
    const cluster = new Cluster()
    let lose = false
    const proposer = new Proposer({
      ...real,
      rpc: NO_RPC,
      self: SELF,
      servers: () => [SELF],
      proposeHere: request => {
        const applied = cluster.commit(request)
        if (!lose) return Promise.resolve(applied)
        lose = false
        for (let n = 0; n < 4_096; n++)
          cluster.commit({ session: `s${n}`, seq: 0, settledBelow: 0, command: { kind: 'session-open' } })
        return Promise.reject(refuse('ERR_PEER'))
      }
    })
    await proposer.propose(create('red'))
    lose = true
    await t.rejects(proposer.propose(create('blue')), { code: 'ERR_SESSION_EXPIRED' })
    t.equal(cluster.state.networkCount, 2, 'it was')
    t.equal(cluster.requests.filter(r => r.command.kind === 'network-create').length, 3, 'and not a third time')
  }
)

t.test("who comes while a session is being opened is not bound by its opener's time", async t => {
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
    proposeHere: request => {
      tries += 1
      // The pauses are short at first: the second caller has a good part of a second more than the first.
      if (tries === 6) late = proposer.propose(create('blue'))
      return open ? Promise.resolve(cluster.commit(request)) : Promise.reject(refuse('ERR_NO_QUORUM'))
    }
  })
  await t.rejects(proposer.propose(create('red')), { code: 'ERR_NO_QUORUM' })
  open = true
  t.match(await late, { result: { kind: 'network', network: { name: 'blue' } } })
})

t.test('answers are settled in order, and at most so many requests are under way', async t => {
  const cluster = new Cluster()
  const waiting: (() => void)[] = []
  const proposer = new Proposer({
    ...real,
    rpc: NO_RPC,
    self: SELF,
    servers: () => [SELF],
    proposeHere: async request => {
      if (request.seq > 1) await new Promise<void>(resolve => waiting.push(resolve))
      return cluster.commit(request)
    }
  })
  await proposer.propose(create('red'))
  const many = [...Array(2_048).keys()].map(() => proposer.propose(create('red')).catch((err: unknown) => err))
  await waitFor('all are under way', () => waiting.length === 2_048)
  await t.rejects(proposer.propose(create('blue')), { code: 'ERR_BUSY' })
  for (const go of waiting.toReversed()) go()
  const answers = (await Promise.all(many)) as VxmeshError[]
  t.ok(
    answers.every(({ code }) => code === 'ERR_NETWORK_EXISTS'),
    'none was given up unanswered'
  )
  t.ok(cluster.requests.every(({ seq, settledBelow }) => settledBelow <= seq))
  const next = proposer.propose(create('blue'))
  await waitFor('the next one', () => waiting.length === 2_049)
  waiting.at(-1)?.()
  await next
  t.equal(cluster.requests.at(-1)?.settledBelow, 2_050, 'all before it are settled')
})

type Remote = { readonly asker: Host; readonly one: Host; readonly two: Host; readonly proposer: Proposer }

/** A client and two servers; what each server does with a proposal is up to the test. */
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

function serve(on: Host, proposeHere: ((request: Request) => Promise<Applied>) | null): void {
  servePropose(on.rpc, { proposeHere: () => proposeHere, check: parseRequest })
}

t.test('the leader is found by its word, and asked first from then on', async t => {
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

t.test(
  'what Raft or the feed would tell comes with the answer; word that makes no sense is an answer lost',
  async t => {
    const { asker, one, proposer: plain } = await remote(t)
    const cluster = new Cluster()
    const word = { raft: [new Uint8Array([1, 2]), new Uint8Array([3])], feed: [new Uint8Array([4])] }
    const heard: unknown[] = []
    const proposeHere = (request: Request): Promise<Applied> => Promise.resolve(cluster.commit(request))
    servePropose(one.rpc, {
      proposeHere: () => proposeHere,
      check: parseRequest,
      noticeFor: to => (to === asker.peer ? word : { raft: [], feed: [] })
    })
    let senseless = 1
    const proposer = new Proposer({
      ...real,
      rpc: asker.rpc,
      self: asker.peer,
      servers: () => [one.peer],
      proposeHere: () => Promise.reject(refuse('ERR_NOT_LEADER')),
      onNotice: (leader, { raft, feed }) => {
        if (senseless-- > 0) throw refuse('ERR_PEER')
        heard.push([leader, ...[raft, feed].map(frames => frames.map(frame => [...frame]))])
      }
    })
    await proposer.propose(create('a'))
    t.strictSame(heard[0], [one.peer, [[1, 2], [3]], [[4]]])
    t.equal(cluster.state.networkCount, 1)
    t.equal(proposer.retries, 1, 'it was asked for again, under its own identity')
    await plain.propose(create('b'))
    t.equal(cluster.state.networkCount, 2, 'who does not listen is answered all the same')
  }
)

t.test('a server that is lost in the middle is replaced by another, under the same identity', async t => {
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

t.test('word of another leader ends the wait for one that does not answer, under the same identity', async t => {
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
  t.equal(proposer.retries, 3, 'each was asked once more')
})

t.test('word of a leader ends the pause of those who look for one', async t => {
  const cluster = new Cluster()
  let led = false
  let refused = 0
  const proposer = new Proposer({
    ...real,
    rpc: NO_RPC,
    self: SELF,
    servers: () => (led ? [] : [SELF]),
    proposeHere: request => {
      if (led) return Promise.resolve(cluster.commit(request))
      refused += 1
      return Promise.reject(refuse('ERR_NOT_LEADER'))
    }
  })
  const proposal = proposer.propose(create('red'))
  await waitFor('it looks', () => refused > 2)
  led = true
  // Only word can tell: there is no server to be asked any more.
  proposer.hint(SELF)
  t.match(await proposal, { result: { kind: 'network' } })
})

const answers: readonly { what: string; answer: unknown }[] = [
  ...[null, 7, 'x', [], {}].map(answer => ({ what: JSON.stringify(answer), answer })),
  ...[null, 7, {}, { index: 1 }, { index: '1', outcome: { ok: true, result: {} } }, { index: 1, outcome: null }].map(
    applied => {
      return { what: `applied ${JSON.stringify(applied)}`, answer: { applied } }
    }
  ),
  { what: 'an outcome without a result', answer: { applied: { index: 1, outcome: { ok: true } } } },
  {
    what: 'a result of another kind than the command has',
    answer: { applied: { index: 1, outcome: { ok: true, result: { kind: 'namespace' } } } }
  },
  { what: 'an outcome without an error', answer: { applied: { index: 1, outcome: { ok: false } } } },
  { what: 'a leader that is none', answer: { leader: 'nonsense' } },
  { what: 'a leader of 7', answer: { leader: 7 } },
  { what: 'a leader that nobody knows', answer: { leader: peer(9) } }
]
for (const { what, answer } of answers) {
  t.test(`a server that answers nonsense is no leader, and the next one is asked: ${what}`, async t => {
    const { one, two, proposer } = await remote(t)
    const cluster = new Cluster()
    one.rpc.register('propose', () => Promise.resolve(answer))
    serve(two, request => Promise.resolve(cluster.commit(request)))
    t.match(await proposer.propose(create('red')), { result: { kind: 'network' } })
    t.equal(cluster.state.networkCount, 1)
  })
}

t.test('a host that is no server, and a request that is none, are told so', async t => {
  const { asker, one, two } = await remote(t)
  const cluster = new Cluster()
  serve(one, null)
  serve(two, request => Promise.resolve(cluster.commit(request)))
  const call = (to: Host, body: unknown): Promise<unknown> =>
    asker.rpc.call({ peer: to.peer, method: 'propose', body, timeoutMs: 5_000 })
  const request = { session: 's', seq: 0, settledBelow: 0, command: { kind: 'session-open' } }
  t.same(await call(one, request), { leader: '' })
  for (const body of [null, 7, {}, { ...request, seq: -1 }, { ...request, command: { kind: 'x' } }]) {
    await t.rejects(call(two, body), { code: 'ERR_INVALID' })
  }
  t.same(cluster.requests, [])
})

t.test('the end of the agent ends a proposal under way at once, and lets no other begin', async t => {
  const never = new Promise<Applied>(() => undefined)
  const proposer = new Proposer({ ...real, rpc: NO_RPC, self: SELF, servers: () => [SELF], proposeHere: () => never })
  const waiting = t.rejects(proposer.propose(create('red')), { code: 'ERR_AGENT_UNREACHABLE' })
  await new Promise(resolve => setImmediate(resolve))
  const since = performance.now()
  proposer.stop()
  await waiting
  await t.rejects(proposer.propose(create('blue')), { code: 'ERR_AGENT_UNREACHABLE' })
  t.ok(performance.now() - since < DEADLINE_MS, 'nobody waited for the deadline')
})
