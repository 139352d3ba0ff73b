import t from 'tap'
import { whyNotAdmitted, whyNotYet } from '#allocator/admission.ts'
import { digestOf } from '#allocator/digest.ts'
import { decodeState, encodeState } from '#allocator/snapshot.ts'
import { vacated } from '#allocator/vacate.ts'
import { parseIp } from '#model/ip.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import type { HostName } from '#model/ids.ts'
import {
  attach,
  brief,
  Caller,
  contents,
  create,
  makeHost,
  NEW,
  OLD,
  peer,
  register,
  removeHost,
  testRefusals
} from './fixtures.ts'

const ready = (): Caller => {
  const caller = Caller.ready()
  caller.do(attach('red', 'c1'))
  return caller
}

testRefusals(t, ready, [
  { what: 'the name of another host', command: register(3, { name: 'h1' }), refused: 'ERR_HOST_EXISTS name' },
  {
    what: 'the name and the VTEP of another host',
    command: register(3, { name: 'h1', vtep: '192.0.2.1' }),
    refused: 'ERR_HOST_EXISTS name'
  },
  { what: 'the VTEP of another host', command: register(3, { vtep: '192.0.2.1' }), refused: 'ERR_ADDRESS_IN_USE vtep' },
  { what: 'a new name that another host has', command: register(2, { name: 'h1' }), refused: 'ERR_HOST_EXISTS name' },
  {
    what: 'a new VTEP that another host has',
    command: register(2, { vtep: '192.0.2.1' }),
    refused: 'ERR_ADDRESS_IN_USE vtep'
  },
  { what: 'removing an unknown host', command: removeHost('h3'), refused: 'ERR_HOST_NOT_FOUND name' },
  { what: 'to remove a host by its peer id', command: removeHost('12d3'), refused: 'ERR_HOST_NOT_FOUND name' }
])

t.test('the peer id identifies a host: name, VTEP and boot id may change, and its endpoints stay', t => {
  const caller = ready()
  for (const p of [{ bootId: 'boot-2' }, { vtep: '192.0.2.77' }, { name: 'other' }, {}]) {
    caller.do(register(1, p))
    t.same(caller.state.host(peer(1)), makeHost(1, p))
    t.same(caller.state.hostByName((p.name ?? 'h1') as HostName), makeHost(1, p))
    t.equal(caller.state.hostCount, 2)
    t.equal(caller.state.endpointsOnHost(peer(1)).length, 1)
  }
  t.end()
})

t.test('registering the same record again changes nothing', t => {
  const caller = ready()
  const before = contents(caller.state)
  caller.do(register(1))
  t.equal(contents(caller.state), before)
  t.end()
})

t.test('a name and VTEP that a host no longer uses are free for another', t => {
  const caller = ready()
  caller.do(register(1, { name: 'new', vtep: '192.0.2.9' }))
  caller.do(register(3, { name: 'h1', vtep: '192.0.2.1' }))
  t.equal(caller.state.hostByName('h1' as HostName)?.peerId, peer(3))
  t.end()
})

t.test('a removed host may register again, without its former endpoints', t => {
  const caller = ready()
  caller.do(attach('red', 'c2', { host: 1 }))
  caller.do(attach('red', 'c3', { host: 2 }))
  t.same(caller.do(removeHost('h1')), { kind: 'host-removed', host: makeHost(1), released: 2 })
  t.equal(caller.state.host(peer(1)), undefined)
  t.equal(brief(caller.try(removeHost('h1'))), 'ERR_HOST_NOT_FOUND name')
  caller.do(register(4, { name: 'h1', vtep: '192.0.2.1' }))
  caller.do(register(1, { name: 'back', vtep: '192.0.2.100' }))
  t.same(caller.state.endpointsOnHost(peer(1)), [])
  t.equal(caller.state.host(peer(1))?.vtep, parseIpv4('192.0.2.100'))
  t.end()
})

/** An underlay of IPv6: two hosts. */
function six(): Caller {
  const caller = new Caller()
  for (const n of [1, 2]) caller.do(register(n, { version: NEW, vtep: `fd00:2::${n}` }))
  return caller
}

testRefusals(t, six, [
  { what: 'an IPv4 VTEP', command: register(3, { version: NEW }), refused: 'ERR_INVALID vtep' },
  { what: 'that of a host that had an IPv6 one', command: register(2, { version: NEW }), refused: 'ERR_INVALID vtep' },
  {
    what: 'the IPv6 VTEP of another host',
    command: register(3, { version: NEW, vtep: 'fd00:2::1' }),
    refused: 'ERR_ADDRESS_IN_USE vtep'
  }
])

testRefusals(t, () => Caller.raised(), [
  {
    what: 'an IPv6 VTEP among IPv4 ones',
    command: register(3, { version: NEW, vtep: 'fd00:2::3' }),
    refused: 'ERR_INVALID vtep'
  }
])

t.test('a cluster has the underlay family of its first host, and the only host may change it', t => {
  const caller = six()
  caller.do(register(3, { version: NEW, vtep: 'fd00:2::3' }))
  t.equal(caller.state.hostByName('h3' as HostName)?.vtep, 'fd00:2::3')
  for (const name of ['h2', 'h3']) caller.do(removeHost(name))
  caller.do(register(1, { version: NEW }))
  t.equal(caller.state.host(peer(1))?.vtep, parseIpv4('192.0.2.1'))
  t.equal(brief(caller.try(register(2, { version: NEW, vtep: 'fd00:2::2' }))), 'ERR_INVALID vtep')
  caller.do(register(2, { version: NEW }))
  t.end()
})

t.test('an IPv6 VTEP is in no row before every host can read it', t => {
  const first = new Caller()
  t.equal(brief(first.try(register(1, { version: OLD, vtep: 'fd00:2::1' }))), 'ERR_UNSUPPORTED vtep')
  first.do(register(1, { version: OLD }))
  t.equal(brief(first.try(register(2, { version: NEW, vtep: 'fd00:2::2' }))), 'ERR_UNSUPPORTED vtep')
  first.do(register(1, { version: NEW, vtep: 'fd00:2::1' }))
  t.equal(first.state.host(peer(1))?.vtep, parseIp('fd00:2::1'), 'with the entry that makes all of them new')
  t.end()
})

t.test('hosts of an IPv6 underlay that propose at once are all registered, whatever rules their requests name', t => {
  const caller = new Caller()
  for (const n of [1, 2, 3]) {
    caller.rules = 4
    caller.do(register(n, { version: NEW, vtep: `fd00:2::${n}` }))
  }
  t.equal(caller.state.hostCount, 3)
  t.end()
})

t.test(
  'a snapshot and a restored backup keep IPv6 tunnel addresses, and the backup serves a cluster of either family',
  t => {
    const caller = six()
    caller.do(create('red'))
    caller.do(attach('red', 'c1', { host: 1 }))
    const copy = decodeState(encodeState(caller.state))
    t.equal(digestOf(copy), digestOf(caller.state))
    t.equal(copy.host(peer(2))?.vtep, 'fd00:2::2')
    for (const [vtep, other] of [
      ['192.0.2.9', 'fd00:2::8'],
      ['fd00:2::9', '192.0.2.8']
    ] as const) {
      const there = new Caller(vacated(decodeState(encodeState(caller.state))), 's9')
      there.do(register(9, { version: NEW, vtep }))
      t.equal(brief(there.try(register(8, { version: NEW, vtep: other }))), 'ERR_INVALID vtep')
    }
    t.end()
  }
)

t.test('a proposer, and the leader for a client, refuse a host of another family at once', t => {
  const command = register(3, { version: NEW, vtep: '192.0.2.3' })
  const { state } = six()
  const refused = { error: { field: 'vtep', message: /192\.0\.2\.3 is an IPv4 address.* are IPv6; set bind/ } }
  t.match(whyNotYet(state, command), refused)
  const from = { peer: peer(3), addresses: () => [parseIp('192.0.2.3')], vteps: [] }
  t.match(whyNotAdmitted(state, command, from), refused)
  const fit = register(3, { version: NEW, vtep: 'fd00:2::3' })
  t.match(whyNotAdmitted(state, fit, from), {
    error: { code: 'ERR_NOT_ALLOWED', message: /vteps: \[fd00:2::3\/128\]/ }
  })
  t.equal(whyNotAdmitted(state, fit, { ...from, addresses: () => [parseIp('fd00:2::3')] }), null)
  t.end()
})
