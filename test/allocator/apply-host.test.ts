import t from 'tap'
import { parseIpv4 } from '#model/ipv4.ts'
import type { HostName } from '#model/ids.ts'
import { attach, brief, Caller, contents, makeHost, peer, register, removeHost, testRefusals } from './fixtures.ts'

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
