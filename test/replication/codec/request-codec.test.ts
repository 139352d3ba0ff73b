import fc from 'fast-check'
import t from 'tap'
import type { Command, Request } from '#model/command.ts'
import { parseRequest } from '#model/parse-request.ts'
import { encodeMsgpack } from '#platform/msgpack.ts'
import { decodeRequest, encodeRequest } from '#replication/codec/request-codec.ts'
import { command } from '#test/allocator/arbitraries.ts'
import { attach, create, detach, peer } from '#test/allocator/fixtures.ts'

const own: Request = {
  rules: 3,
  session: `${peer(1)}/s1`,
  seq: 7,
  settledBelow: 5,
  command: attach('red', 'c1', { host: 1 }),
  by: peer(1)
}

const session = fc.constantFrom('s1', `${peer(1)}/s1`, `${peer(2)}/a/b`, '', '/', 'x/')
const anyRequest: fc.Arbitrary<Request> = fc
  .record({ session, seq: fc.maxSafeNat(), settledBelow: fc.maxSafeNat(), command })
  .chain(request =>
    fc
      .record({ rules: fc.constantFrom(undefined, 1, 2, 3), by: fc.constantFrom(undefined, peer(1), peer(2)) })
      .map(({ rules, by }) => ({
        ...request,
        ...(rules === undefined ? {} : { rules }),
        ...(by === undefined ? {} : { by })
      }))
  )

t.test('every request survives, and so does one as an earlier release wrote it', async t => {
  const property = fc.property(anyRequest, request => {
    t.strictSame(parseRequest(decodeRequest(encodeRequest(request))), parseRequest(request))
    t.strictSame(parseRequest(decodeRequest(encodeMsgpack(request))), parseRequest(request))
  })
  fc.assert(property, { numRuns: 300 })
})

t.test('optional fields of an attach survive, each with and without the others', async t => {
  const { address, mac, requestId } = { address: 0x0a000005, mac: '02:00:00:00:00:01', requestId: 'r' }
  const labels = { app: 'web', '10': '' }
  const all = { address, mac, requestId, labels }
  for (const optional of [{ address }, { mac }, { requestId }, { address, mac, requestId }, {}, { labels }, all]) {
    const request = { ...own, command: { ...attach('red', 'c1'), ...optional } as Command }
    t.strictSame(decodeRequest(encodeRequest(request)), request)
  }
})

t.test(
  'an attach without labels has the bytes that it had before there were any, and one with labels names no other field',
  async t => {
    const plain = { ...own, command: { ...attach('red', 'c1', { host: 1 }), requestId: 'r' } as Command }
    const head = [1, 3, true, peer(1), 's1', 7, 5, 1, 'red', 'c1', 'eth0', '', null, 0, 0, 0]
    t.same(encodeRequest(plain), encodeMsgpack([...head, null, null, 'r']))
    const labelled = { ...own, command: attach('red', 'c1', { host: 1, labels: { app: 'web' } }) }
    t.same(encodeRequest(labelled), encodeMsgpack([...head, null, null, null, { app: 'web' }]))
  }
)

t.test('a field that this codec does not know is not lost', async t => {
  const request = { ...own, command: { ...attach('red', 'c1'), later: 'field' } as Command }
  t.strictSame(decodeRequest(encodeRequest(request)), request)
})

t.test('the host that owns the session is written once', async t => {
  const text = Buffer.from(encodeRequest(own)).toString('latin1')
  t.equal(text.split(peer(1)).length, 2)
  t.ok(text.length < 0.5 * encodeMsgpack(own).byteLength, `${text.length} bytes`)
  t.match(decodeRequest(encodeRequest({ ...own, command: attach('red', 'c1', { host: 2 }) })), {
    command: { host: peer(2) }
  })
})

const head = [1, 3, true, peer(1), 's1', 7, 5]
const malformed: readonly { what: string; value: unknown }[] = [
  { what: 'an array of another form', value: [2, ...head.slice(1), 0, create('red')] },
  { what: 'no command', value: head },
  { what: 'no map of a command', value: [...head, 0] },
  { what: 'a kind that is unknown', value: [...head, 9, 'c1', 'eth0'] },
  { what: 'half an attach', value: [...head, 1, 'red', 'c1'] },
  { what: 'half a detach', value: [...head, 2, 'c1'] },
  { what: 'an attach to a host that is no peer', value: [...head, 1, 'red', 'c1', 'eth0', '', 'x', 0, 0, 0] },
  { what: 'an owner of 7', value: [1, 3, true, 7, 's1', 7, 5, 2, 'c1', 'eth0'] },
  { what: 'labels of 7', value: [...head, 1, 'red', 'c1', 'eth0', '', null, 0, 0, 0, null, null, null, 7] },
  { what: 'a session of 7', value: [1, 3, false, null, 7, 7, 5, 2, 'c1', 'eth0'] },
  { what: 'a client without a name', value: [1, 3, true, null, 's1', 7, 5, 2, 'c1', 'eth0'] },
  { what: 'rules that are unknown', value: [1, 99, true, peer(1), 's1', 7, 5, 2, 'c1', 'eth0'] },
  { what: 'an empty array', value: [] },
  { what: 'a number', value: 1 }
]
for (const { what, value } of malformed) {
  t.test(`no request is read from ${what}`, async t => {
    t.throws(() => parseRequest(decodeRequest(encodeMsgpack(value))), { code: 'ERR_INVALID' })
  })
}

t.test('what can be read at all is refused or sound: a detach', async t => {
  const request = { ...own, command: detach('c1') }
  const bytes = Buffer.from(encodeRequest(request))
  const property = fc.property(fc.nat(bytes.byteLength - 1), fc.nat(255), (at, byte) => {
    const broken = Buffer.from(bytes)
    broken[at] = byte
    try {
      parseRequest(decodeRequest(broken))
    } catch (err) {
      t.match((err as { code: string }).code, /^ERR_(INVALID|PEER)$/)
    }
  })
  fc.assert(property, { numRuns: 500 })
})
