import t from 'tap'
import { verify } from '#allocator/consistency.ts'
import { digestOf } from '#allocator/digest.ts'
import { listKv } from '#allocator/kv-view.ts'
import { decodeState, encodeState } from '#allocator/snapshot.ts'
import { vacated } from '#allocator/vacate.ts'
import type { ClusterState } from '#allocator/state-machine.ts'
import { isVacant } from '#model/host.ts'
import type { HostName, NetworkName } from '#model/ids.ts'
import { attach, brief, Caller, create, detach, peer, register, removeHost } from './fixtures.ts'

/** Vacant hosts: h1 with two endpoints, h2 with one. */
function restored(): Caller {
  const caller = Caller.ready()
  caller.do(create('blue', { subnet: '10.2.0.0/24' }))
  caller.do(attach('red', 'c1'))
  caller.do(attach('blue', 'c2', { address: '10.2.0.9' }))
  caller.do(attach('red', 'c3', { host: 2 }))
  caller.state.become(vacated(caller.state))
  return caller
}

const addresses = (state: ClusterState): unknown[] =>
  [...state.endpoints()].map(e => [e.containerId, e.address, e.mac, e.host]).sort()

t.test(
  'networks, allocations, cursors and the log index stay; hosts become vacant; the original state is unchanged',
  t => {
    const caller = Caller.ready()
    caller.do(attach('red', 'c1'))
    caller.do(register(3))
    const digest = digestOf(caller.state)
    const after = vacated(caller.state)
    t.equal(digestOf(caller.state), digest)
    t.same(verify(after), [])
    t.same(addresses(after), addresses(caller.state))
    t.equal(after.appliedIndex, caller.state.appliedIndex)
    t.same(after.addressUse('red' as NetworkName), caller.state.addressUse('red' as NetworkName))
    t.same(
      [...after.hosts()].map(host => [host.name, isVacant(host)]),
      [['h1', true]],
      'a host without endpoints is gone'
    )
    t.end()
  }
)

t.test('vacating is deterministic, and a vacated state survives a snapshot', t => {
  const [one, two] = [vacated(restored().state), restored().state]
  t.equal(digestOf(one), digestOf(two))
  const back = decodeState(JSON.parse(JSON.stringify(encodeState(one))))
  t.equal(digestOf(back), digestOf(one))
  t.same(verify(back), [])
  t.end()
})

t.test('another host may take the name and VTEP of a vacant one, whose endpoints keep waiting', t => {
  const caller = restored()
  caller.do(register(7, { name: 'h1', vtep: '192.0.2.1' }))
  t.equal(caller.state.hostByName('h1' as HostName)?.peerId, peer(7))
  t.equal(caller.state.endpointsOnHost(peer(7)).length, 0)
  t.equal(caller.state.endpointsOnHost(peer(1)).length, 2)
  t.same(verify(caller.state), [])
  t.end()
})

t.test('a host of the same name attaches the waiting endpoints unchanged; other hosts are refused', t => {
  const caller = restored()
  caller.do(register(7, { name: 'h1', vtep: '192.0.2.71' }))
  caller.do(register(8, { name: 'h8', vtep: '192.0.2.72' }))
  const before = caller.state.endpointsOfContainer('c1' as never)[0]
  t.equal(brief(caller.try(attach('red', 'c1', { host: 8 }))), 'ERR_ENDPOINT_EXISTS containerId')
  t.equal(brief(caller.try(attach('blue', 'c1', { host: 7 }))), 'ERR_ENDPOINT_EXISTS containerId')
  t.equal(brief(caller.try(attach('red', 'c1', { host: 7, address: '10.1.0.77' }))), 'ERR_ENDPOINT_EXISTS containerId')
  for (let again = 0; again < 2; again++) {
    t.match(caller.do(attach('red', 'c1', { host: 7 })), { created: false, endpoint: { ...before, host: peer(7) } })
    t.same(verify(caller.state), [])
  }
  t.equal(caller.state.endpointsOnHost(peer(1)).length, 1)
  t.end()
})

t.test('a vacant host disappears with its last endpoint, whether attached, detached or deleted', t => {
  const caller = restored()
  caller.do(register(7, { name: 'h1', vtep: '192.0.2.71' }))
  caller.do(attach('red', 'c1', { host: 7 }))
  t.ok(caller.state.host(peer(1)))
  caller.do(detach('c2'))
  t.equal(caller.state.host(peer(1)), undefined)
  caller.do({ kind: 'network-delete', name: 'red' as NetworkName, force: true })
  t.equal(caller.state.host(peer(2)), undefined)
  t.same(verify(caller.state), [])
  t.end()
})

t.test('removing by name removes vacant hosts first, and only then the present host', t => {
  const caller = restored()
  caller.do(register(7, { name: 'h1', vtep: '192.0.2.71' }))
  caller.do(attach('red', 'n1', { host: 7 }))
  t.match(caller.do(removeHost('h1')), { host: { peerId: peer(1) }, released: 2 })
  t.equal(caller.state.endpointsOnHost(peer(7)).length, 1)
  t.match(caller.do(removeHost('h1')), { host: { peerId: peer(7) }, released: 1 })
  t.equal(brief(caller.try(removeHost('h1'))), 'ERR_HOST_NOT_FOUND name')
  t.match(caller.do(removeHost('h2')), { host: { peerId: peer(2) }, released: 1 }, 'also with nobody of the name')
  t.same(verify(caller.state), [])
  t.end()
})

t.test('after a second restore two vacant hosts may share a name, and are removed together', t => {
  const caller = restored()
  caller.do(register(7, { name: 'h1', vtep: '192.0.2.71' }))
  caller.do(attach('red', 'n1', { host: 7 }))
  caller.state.become(vacated(caller.state))
  t.same(verify(caller.state), [])
  t.match(caller.do(removeHost('h1')), { host: { peerId: peer(1) }, released: 3 })
  t.equal(caller.state.hostByName('h1' as HostName), undefined)
  t.end()
})

t.test('a host that returns with its own identity has its endpoints again', t => {
  const caller = restored()
  caller.do(register(1))
  t.notOk(isVacant(caller.state.host(peer(1)) ?? ({ vtep: 0 } as never)))
  t.equal(caller.state.endpointsOnHost(peer(1)).length, 2)
  t.same(verify(caller.state), [])
  t.end()
})

t.test('a host key in the key-value view refers to one host', t => {
  const caller = restored()
  caller.do(register(7, { name: 'h1', vtep: '192.0.2.71' }))
  t.same(
    listKv(caller.state, { prefix: 'host/' }).map(({ key, value }) => [key, value['peerId']]),
    [
      ['host/h1', peer(7)],
      ['host/h2', peer(2)]
    ]
  )
  t.end()
})
