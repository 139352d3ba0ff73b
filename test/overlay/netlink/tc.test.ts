// The traffic control codec: what we write reads back as the same, and the kernel's own forms (taken from dumps of a
// complete kernel, struct by struct) are understood; hostile input never throws.

import fc from 'fast-check'
import t from 'tap'
import { Writer } from '#overlay/netlink/bytes.ts'
import { decodeStats } from '#overlay/netlink/stats.ts'
import * as k from '#overlay/netlink/tc-constants.ts'
import { decodeFilter, decodeQdisc } from '#overlay/netlink/tc-info.ts'
import {
  addRedirect,
  changeQdisc,
  createClsact,
  deleteFilters,
  deleteProgramFilter,
  deleteQdisc,
  getProgramFilter,
  getQdisc,
  handleOf,
  replaceQdisc,
  setProgramFilter,
  type QdiscSpec
} from '#overlay/netlink/tc.ts'

const place = { ifindex: 7, parent: k.TC_H_ROOT, handle: handleOf(0x7678) }
const plain = { noNullPrototype: true }
const u32 = fc.nat({ max: 0xffffffff })

t.test('handles are major and minor, without a sign', async t => {
  t.equal(handleOf(1), 0x10000)
  t.equal(handleOf(0x7678, 1), 0x76780001)
  t.equal(handleOf(0xffff), k.CLSACT_HANDLE)
})

t.test('a queue reads back as it was written', async t => {
  const specs: fc.Arbitrary<QdiscSpec> = fc.oneof(
    fc.record({ kind: fc.constant('bfifo' as const), limit: u32 }, plain),
    fc.record(
      { kind: fc.constant('fq_codel' as const), targetUs: u32, intervalUs: u32, limit: u32, flows: u32 },
      plain
    ),
    fc.record({ kind: fc.constant('netem' as const), delayUs: fc.nat({ max: 60e6 }), limit: u32 }, plain)
  )
  fc.assert(
    fc.property(specs, spec => {
      const decoded = decodeQdisc(replaceQdisc(place, spec).body)
      t.strictSame(decoded, { ...place, kind: spec.kind, spec })
    })
  )
})

t.test('the kernel reports the burst of a tbf as its transmission time, in ticks of 64 ns', async t => {
  const dump = (p: { rate: number; rate64?: bigint; limit: number; bufferTicks: number }): Uint8Array => {
    const qopt = new Uint8Array(36)
    const view = new DataView(qopt.buffer)
    view.setUint32(8, p.rate, true)
    view.setUint32(24, p.limit, true)
    view.setUint32(28, p.bufferTicks, true)
    return new Writer()
      .u32(0)
      .u32(7)
      .u32(place.handle)
      .u32(place.parent)
      .u32(2)
      .attributeText(k.TCA_KIND, 'tbf')
      .nested(k.TCA_OPTIONS, o => {
        o.attribute(k.TCA_TBF_PARMS, qopt)
        if (p.rate64 !== undefined) o.attribute(k.TCA_TBF_RATE64, new Uint8Array(new BigUint64Array([p.rate64]).buffer))
      })
      .message(0, 0).body
  }
  // tc -j: {"kind":"tbf","handle":"7678:","options":{"rate":125000,"burst":2928,"limit":17568}}
  t.match(decodeQdisc(dump({ rate: 125_000, limit: 17_568, bufferTicks: 366_000 })), {
    ifindex: 7,
    spec: { kind: 'tbf', rate: 1e6, burst: 2928, limit: 17_568 }
  })
  t.match(decodeQdisc(dump({ rate: 0xffffffff, rate64: 12_500_000_000n, limit: 1, bufferTicks: 84_000 })), {
    spec: { rate: 1e11, burst: 67_200_000 }
  })
})

t.test('a rate above 34 Gbit/s is sent in the 64-bit attribute', async t => {
  const attributes = (rate: number): number =>
    replaceQdisc(place, { kind: 'tbf', rate, burst: 1, limit: 1 }).body.length
  t.equal(attributes(1e11) - attributes(1e9), 12)
})

t.test('a change of fq_codel omits the number of flows, which the kernel would refuse', async t => {
  const spec: QdiscSpec = { kind: 'fq_codel', targetUs: 1, intervalUs: 1, limit: 1, flows: 128 }
  t.match(decodeQdisc(replaceQdisc(place, spec).body), { spec })
  t.equal(replaceQdisc(place, spec).body.length - changeQdisc(place, spec).body.length, 8)
})

t.test('netem that does more than delay is not ours', async t => {
  const body = Uint8Array.from(replaceQdisc(place, { kind: 'netem', delayUs: 10_000, limit: 1000 }).body)
  const qopt = body.length - 12 - 24
  t.match(decodeQdisc(body), { spec: { delayUs: 10_000 } })
  for (const field of [8, 12, 16, 20]) {
    const odd = Uint8Array.from(body)
    odd[qopt + field] = 1
    t.match(decodeQdisc(odd), { kind: 'netem', spec: null }, `field at ${field}`)
  }
})

t.test('a redirection of everything reads back, and nothing less counts as one', async t => {
  const body = addRedirect({ ifindex: 7, priority: 0x7678, target: 9 }).body
  t.strictSame(decodeFilter(body), {
    ifindex: 7,
    parent: k.TC_H_INGRESS_FILTERS,
    priority: 0x7678,
    kind: 'u32',
    program: null,
    redirectAll: 9
  })
  const sel = body.findIndex((_, at) => body[at] === k.TCA_U32_SEL && body[at - 2] === 36) + 2
  const change = (at: number, value: number): Uint8Array => {
    const odd = Uint8Array.from(body)
    odd[at] = value
    return odd
  }
  t.match(decodeFilter(change(sel + 16, 0xff)), { redirectAll: null }, 'a key with a mask')
  t.match(decodeFilter(change(body.length - 8, 3)), { redirectAll: null }, 'mirrored, not redirected')
  t.match(decodeFilter(change(body.length - 20, 0)), { redirectAll: null }, 'continues after the match')
})

t.test('a filter by a program is told from others of its priority, and redirects nothing', async t => {
  const place = { ifindex: 7, priority: 118 }
  const set = setProgramFilter({ ...place, program: 9, name: 'from_container' })
  const common = { ifindex: 7, parent: k.TC_H_INGRESS_FILTERS, priority: 118, redirectAll: null }
  // The kernel answers with the id of the program, not with the descriptor.
  t.strictSame(decodeFilter(set.body), { ...common, kind: 'bpf', program: { id: 0, name: 'from_container' } })
  t.strictSame(decodeFilter(getProgramFilter(place).body), { ...common, kind: 'bpf', program: { id: 0, name: '' } })
  const handles = [set, getProgramFilter(place), deleteProgramFilter(place)].map(({ body }) => {
    return new DataView(body.buffer, body.byteOffset).getUint32(8, true)
  })
  t.same(handles, [1, 1, 1])
  const { body } = deleteFilters({ ...place, parent: k.TC_H_INGRESS_FILTERS })
  t.equal(new DataView(body.buffer, body.byteOffset).getUint32(8, true), 0, 'all of its priority')
})

t.test('each request carries the flags of its purpose', async t => {
  const spec: QdiscSpec = { kind: 'bfifo', limit: 1 }
  t.match(replaceQdisc(place, spec), { type: k.RTM_NEWQDISC, flags: 0x500 })
  t.match(changeQdisc(place, spec), { type: k.RTM_NEWQDISC, flags: 0 })
  t.match(createClsact(7), { type: k.RTM_NEWQDISC, flags: 0x600 })
  t.match(deleteQdisc(place), { type: k.RTM_DELQDISC, flags: 0 })
  t.match(getQdisc(place), { type: k.RTM_GETQDISC, flags: 0x8 }, 'without NLM_F_ECHO the reply is only multicast')
})

t.test('hostile answers give null or fewer facts, never an exception', async t => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat({ max: 120 }), (noise, cut) => {
      const bodies = [
        noise,
        addRedirect({ ifindex: 7, priority: 1, target: 9 }).body.slice(0, cut),
        Uint8Array.from(
          replaceQdisc(place, { kind: 'netem', delayUs: 1, limit: 1 }).body,
          (byte, i) => noise[i] ?? byte
        )
      ]
      for (const body of bodies) for (const decode of [decodeQdisc, decodeFilter, decodeStats]) decode(body)
    })
  )
  t.equal(decodeQdisc(new Uint8Array(19)), null)
  t.equal(decodeFilter(new Uint8Array(19)), null)
  t.equal(decodeStats(new Uint8Array(12)), null)
})
