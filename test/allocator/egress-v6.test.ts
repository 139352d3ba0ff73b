// How IPv6 of a network leaves its hosts: where it is kept, who may have it routed, and that networks which say nothing of it keep
// their bytes (docs/adr/0055).

import t from 'tap'
import { whyNotYet } from '#allocator/admission.ts'
import { digestOf } from '#allocator/digest.ts'
import { decodeState, encodeState } from '#allocator/snapshot.ts'
import { parseRequest } from '#model/parse-request.ts'
import { RULES, UNGATED_RULES } from '#model/command.ts'
import { addSubnet, attach, brief, Caller, create, leave, NEW, register, remove, testRefusals } from './fixtures.ts'

const BOTH = { subnet: '10.2.0.0/24', subnet6: 'fd00:2::/64' } as const

/** routed: fd00:2::/64, routed; plain: the same subnets, translated; open: fd00:4::/64 with hostAccess. */
function ready(): Caller {
  const caller = Caller.raised()
  caller.do(create('routed', { ...BOTH, egressV6: 'routed' }))
  caller.do(create('plain', BOTH))
  caller.do(create('open', { subnet: 'fd00:4::/64', hostAccess: true }))
  caller.do(create('old', { subnet: '10.9.0.0/24', egressV6: 'routed' }))
  return caller
}

testRefusals(t, ready, [
  {
    what: 'a routed network within a routed one',
    command: create('new', { subnet: 'fd00:2::/80', egressV6: 'routed' }),
    refused: 'ERR_ADDRESS_IN_USE subnet'
  },
  {
    what: 'hostAccess to addresses that are routed',
    command: create('new', { subnet: 'fd00:2::/64', hostAccess: true }),
    refused: 'ERR_ADDRESS_IN_USE subnet'
  },
  {
    what: 'a routed network around one with hostAccess',
    command: create('new', { subnet: 'fd00:4::/60', egressV6: 'routed' }),
    refused: 'ERR_ADDRESS_IN_USE subnet'
  },
  { what: 'to route what is routed', command: leave('plain', 'routed'), refused: 'ERR_ADDRESS_IN_USE egressV6' },
  {
    what: 'a second subnet that is to be routed, and is already',
    command: addSubnet('old', 'fd00:2::/64'),
    refused: 'ERR_ADDRESS_IN_USE subnet'
  },
  {
    what: 'an MTU that IPv6 does not allow',
    command: { ...create('new', { subnet: 'fd00:5::/64' }), mtu: 1_279 },
    refused: 'ERR_INVALID mtu'
  },
  { what: 'a network that does not exist', command: leave('none', 'routed'), refused: 'ERR_NETWORK_NOT_FOUND name' }
])

t.test('networks that are translated may overlap, and the routed one may change to it and back', t => {
  const caller = ready()
  caller.do(create('more', { ...BOTH, subnet: '10.3.0.0/24' }))
  caller.do(leave('routed', 'nat'))
  caller.do(leave('plain', 'routed'))
  t.equal(brief(caller.try(leave('routed', 'routed'))), 'ERR_ADDRESS_IN_USE egressV6')
  t.equal(brief(caller.try(leave('plain', 'routed'))), 'ok', 'as it is already')
  caller.do(remove('plain'))
  t.equal(brief(caller.try(leave('routed', 'routed'))), 'ok')
  caller.do(addSubnet('old', 'fd00:9::/64'))
  t.equal(caller.state.tables.hostRouted.overlapping({ base: 'fd00:9::' as never, prefixLength: 64 }).length, 1)
  t.end()
})

t.test('IPv4 of a routed network may overlap', t => {
  const caller = ready()
  t.equal(brief(caller.try(create('new', { subnet: '10.2.0.0/24', hostAccess: true }))), 'ok')
  t.end()
})

t.test('a network with an MTU too small gets no second subnet', t => {
  const caller = ready()
  caller.do({ ...create('small'), mtu: 1_000 })
  t.equal(brief(caller.try(addSubnet('small', 'fd00:6::/64'))), 'ERR_INVALID mtu')
  t.equal(brief(caller.try({ ...create('least', { subnet: 'fd00:7::/64' }), mtu: 1_280 })), 'ok')
  t.end()
})

t.test('translated is what is not said: row, digest and snapshot are the same', t => {
  const [said, unsaid, changed] = [Caller.raised(), Caller.raised(), Caller.raised()]
  said.do(create('a', { ...BOTH, egressV6: 'nat' }))
  unsaid.do(create('a', BOTH))
  changed.do(create('a', { ...BOTH, egressV6: 'routed' }))
  t.not(digestOf(changed.state), digestOf(unsaid.state))
  t.equal(changed.state.network('a' as never)?.egressV6, 'routed')
  const kept = decodeState(encodeState(changed.state))
  t.equal(kept.network('a' as never)?.egressV6, 'routed', 'kept by a snapshot')
  t.equal(digestOf(kept), digestOf(changed.state))
  t.notOk('egressV6' in (said.state.network('a' as never) ?? {}))
  t.equal(digestOf(said.state), digestOf(unsaid.state))
  t.equal(JSON.stringify(encodeState(said.state)), JSON.stringify(encodeState(unsaid.state)))
  t.notMatch(JSON.stringify(encodeState(unsaid.state)), 'egressV6')
  changed.do(leave('a', 'nat'))
  t.notOk('egressV6' in (changed.state.network('a' as never) ?? {}))
  t.same(changed.state.network('a' as never), unsaid.state.network('a' as never))
  t.end()
})

t.test('before the rules are raised it is refused by its name, and ignored in what older hosts wrote', t => {
  const caller = Caller.ready()
  caller.rules = RULES
  for (const command of [create('new', { egressV6: 'routed' }), leave('red', 'nat')]) {
    t.equal(brief(caller.try(command)), 'ERR_UNSUPPORTED egressV6')
    t.match(whyNotYet(caller.state, command), { error: { field: 'egressV6' } })
  }
  t.match(whyNotYet(caller.state, create('new', { ...BOTH, egressV6: 'routed' })), { error: { field: 'subnet' } })
  t.match(whyNotYet(caller.state, attach('red', 'c', { address6: 'fd00::5' })), { error: { field: 'address' } })
  const request = { session: 's', seq: 1, settledBelow: 0, rules: UNGATED_RULES }
  for (const command of [create('new', { egressV6: 'routed' }), leave('red', 'routed')]) {
    t.notOk('egressV6' in parseRequest({ ...request, command }).command)
    t.ok('egressV6' in parseRequest({ ...request, rules: RULES, command }).command)
  }
  for (const n of [1, 2]) caller.do(register(n, { version: NEW }))
  t.equal(brief(caller.try(leave('red', 'routed'))), 'ok', 'once they are')
  t.end()
})
