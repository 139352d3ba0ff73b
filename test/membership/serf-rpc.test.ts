// The RPC client against a fake Serf that misbehaves; membership.test.ts uses a real one.

import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import t, { type Test } from 'tap'
import { SerfRpc } from '#membership/serf/serf-rpc.ts'
import type { VxmeshError } from '#model/errors.ts'
import { systemClock } from '#platform/clock.ts'
import { encodeMsgpack } from '#platform/msgpack.ts'
import { freePort } from '#test/lab/free-port.ts'
import { waitFor } from '#test/lab/wait.ts'
import { FakeSerf, reply, type Request, type Script } from './fake-serf.ts'
import { record } from './fixtures.ts'

type Opened = { readonly fake: FakeSerf; readonly rpc: SerfRpc; readonly closed: VxmeshError[] }

async function open(t: Test, script: Script, members: readonly unknown[] = []): Promise<Opened> {
  const fake = await FakeSerf.listen(script, { members })
  t.teardown(() => fake.close())
  const closed: VxmeshError[] = []
  const rpc = await SerfRpc.open({ port: fake.port, clock: systemClock, closed: err => closed.push(err) })
  t.teardown(() => rpc.close())
  return { fake, rpc, closed }
}

/** Overrides one command. */
function override(command: string, act: (request: Request, socket: Socket) => void): Script {
  return (request, socket) => {
    if (request.Command !== command) return false
    act(request, socket)
    return true
  }
}

const header = (Seq: unknown, Error: unknown = ''): Buffer => encodeMsgpack({ Seq, Error })

t.test('replies match their requests in any order, with log lines between them', async t => {
  const delayed: (() => void)[] = []
  const { rpc } = await open(t, (request, socket) => {
    if (request.Command === 'monitor') {
      reply(request, socket)
      delayed.push(() => {
        socket.write(Buffer.concat([header(request.Seq), encodeMsgpack({ Log: 'one' }), header(request.Seq)]))
        socket.write(encodeMsgpack({ Log: 'two' }))
      })
      return true
    }
    if (!['members', 'stats'].includes(request.Command)) return false
    delayed.push(() => reply(request, socket, [record(1)]))
    if (delayed.length === 3) for (const act of delayed.toReversed()) act()
    return true
  })
  const lines: string[] = []
  await rpc.monitor(line => lines.push(line))
  const [members, stats] = await Promise.all([rpc.members(), rpc.stats()])
  t.match(members, [{ Name: 'h1', Status: 'alive' }])
  t.equal(stats['agent']?.['name'], 'fake')
  await waitFor('both lines', () => lines.length === 2)
  t.same(lines, ['one', 'two'])
})

t.test('a reply may arrive byte by byte', async t => {
  const trickle = override('members', ({ Seq }, socket) => {
    socket.setNoDelay(true)
    const bytes = Buffer.concat([header(Seq), encodeMsgpack({ Members: [record(1), record(2)] })])
    let at = 0
    const next = (): void => {
      if (at < bytes.length) socket.write(bytes.subarray(at, (at += 1)), () => setImmediate(next))
    }
    next()
  })
  const { rpc } = await open(t, trickle)
  t.equal((await rpc.members()).length, 2)
})

t.test("an error carries Serf's message, and the connection stays open", async t => {
  const { rpc, closed } = await open(
    t,
    (request, socket) => request.Command !== 'handshake' && socket.write(header(request.Seq, 'no such thing'))
  )
  await t.rejects(rpc.members(), { code: 'ERR_SERF', message: /no such thing/ })
  await t.rejects(rpc.join(['192.0.2.1', '192.0.2.2']), {
    code: 'ERR_JOIN_FAILED',
    message: /192\.0\.2\.1, 192\.0\.2\.2.*no such thing/
  })
  t.equal(closed.length, 0)
})

for (const [what, body] of [
  ['nothing', null],
  ['a list', []],
  ['a number', 7],
  ['other fields', { members: [] }],
  ['members that are not a list', { Members: { 0: 'h1' } }]
] as const) {
  t.test(`a reply to "members" without members is an error: ${what}`, async t => {
    const { rpc, closed } = await open(
      t,
      override('members', ({ Seq }, socket) => socket.write(Buffer.concat([header(Seq), encodeMsgpack(body)])))
    )
    await t.rejects(rpc.members(), { code: 'ERR_SERF' })
    t.equal(closed.length, 0)
  })
}

const breaking: readonly { what: string; act: (request: Request, socket: Socket) => void }[] = [
  { what: 'bytes that are not msgpack', act: (_, socket) => socket.write(Buffer.alloc(100, 0xc1)) },
  { what: 'text as header', act: (_, socket) => socket.write(encodeMsgpack('HTTP/1.1 400 Bad Request')) },
  { what: 'a number as header', act: (_, socket) => socket.write(encodeMsgpack(7)) },
  { what: 'nil as header', act: (_, socket) => socket.write(encodeMsgpack(null)) },
  { what: 'a header without an error field', act: ({ Seq }, socket) => socket.write(encodeMsgpack({ Seq })) },
  { what: 'a header without a sequence number', act: (_, socket) => socket.write(header(undefined)) },
  { what: 'a text sequence number', act: ({ Seq }, socket) => socket.write(header(`${Seq}`)) },
  { what: 'an unknown sequence number', act: (_, socket) => socket.write(header(999)) },
  { what: 'a negative sequence number', act: (_, socket) => socket.write(header(-1)) },
  { what: 'a duplicate reply', act: ({ Seq }, socket) => socket.write(Buffer.concat([header(Seq, 'x'), header(Seq)])) },
  { what: 'a close before the reply', act: (_, socket) => socket.end() },
  { what: 'a reset', act: (_, socket) => socket.resetAndDestroy() },
  { what: 'half a header', act: ({ Seq }, socket) => socket.end(header(Seq).subarray(0, 5)) },
  { what: 'a header without its body', act: ({ Seq }, socket) => socket.end(header(Seq)) },
  {
    what: 'half a body',
    act: ({ Seq }, socket) => {
      const body = encodeMsgpack({ Members: [record(1)] })
      socket.end(Buffer.concat([header(Seq), body.subarray(0, body.length / 2)]))
    }
  },
  {
    what: 'a list of four billion members that ends early',
    act: ({ Seq }, socket) => {
      const start = Buffer.from([0x81, 0xa7, ...Buffer.from('Members'), 0xdd, 0xff, 0xff, 0xff, 0xff])
      socket.end(Buffer.concat([header(Seq), start]))
    }
  }
]
for (const { what, act } of breaking) {
  t.test(`a protocol error closes the connection once and fails every request: ${what}`, async t => {
    const { fake, rpc, closed } = await open(t, override('members', act))
    const [members] = await Promise.allSettled([rpc.members()])
    t.match(members, { status: 'rejected', reason: { code: 'ERR_SERF' } })
    await waitFor('the close', () => closed.length > 0 && fake.sockets.size === 0)
    await t.rejects(rpc.stats(), { code: 'ERR_SERF' }, 'and so does the next request')
    t.equal(closed.length, 1)
  })
}

t.test('random bytes are an error', async t => {
  for (let turn = 0; turn < 60; turn++) {
    const bytes = randomBytes(1 + (turn % 40))
    const { rpc, closed } = await open(
      t,
      override('members', ({ Seq }, socket) => socket.end(Buffer.concat([turn % 2 === 0 ? header(Seq) : bytes, bytes])))
    )
    const [members] = await Promise.allSettled([rpc.members()])
    if (members.status === 'rejected') t.match(members.reason, { code: 'ERR_SERF' }, bytes.toString('hex'))
    await waitFor('the close', () => closed.length === 1)
  }
})

t.test('a reply of over 16 MiB closes the connection', async t => {
  let sent = 0
  const flood = override('members', ({ Seq }, socket) => {
    // The header of a text of 4 GiB.
    socket.write(Buffer.concat([header(Seq), Buffer.from([0xdb, 0xff, 0xff, 0xff, 0xff])]))
    const chunk = Buffer.alloc(1024 * 1024, 'x')
    const next = (): void => {
      if (socket.destroyed || sent > 200) return
      sent += 1
      socket.write(chunk, next)
    }
    next()
  })
  const { rpc, closed } = await open(t, flood)
  await t.rejects(rpc.members(), { code: 'ERR_SERF', message: /reply of over 16777216 bytes/ })
  t.equal(closed.length, 1)
  t.ok(sent < 64, `${sent} MiB were sent`)
})

t.test('many log lines do not accumulate', async t => {
  const { rpc } = await open(
    t,
    override('monitor', (request, socket) => {
      reply(request, socket)
      const line = Buffer.concat([header(request.Seq), encodeMsgpack({ Log: 'x'.repeat(1_000) })])
      for (let n = 0; n < 20_000; n++) socket.write(line)
    })
  )
  let lines = 0
  await rpc.monitor(() => (lines += 1))
  await waitFor('20 MB of lines', () => lines === 20_000)
  t.equal((await rpc.stats())['agent']?.['name'], 'fake')
})

for (const [what, act] of [
  ['a close', (_: Request, socket: Socket) => socket.destroy()],
  ['garbage', (_: Request, socket: Socket) => socket.write(Buffer.alloc(9, 0xc1))],
  ['a refusal', ({ Seq }: Request, socket: Socket) => socket.write(header(Seq, 'Unsupported version'))]
] as const) {
  t.test(`a failed handshake is an error and leaves no connection: ${what}`, async t => {
    const fake = await FakeSerf.listen(override('handshake', act))
    t.teardown(() => fake.close())
    let closed = 0
    await t.rejects(SerfRpc.open({ port: fake.port, clock: systemClock, closed: () => (closed += 1) }), {
      code: 'ERR_SERF'
    })
    await waitFor('no connection', () => fake.sockets.size === 0)
    t.equal(closed, 1)
  })
}

t.test('a refused connection is an error that names the port', async t => {
  const port = await freePort()
  await t.rejects(SerfRpc.open({ port, clock: systemClock }), { code: 'ERR_SERF', message: new RegExp(`port ${port}`) })
})
