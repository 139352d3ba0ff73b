// Names and addresses of endpoints, as the resolver looks them up, while the state changes.

import t from 'tap'
import { verify } from '#allocator/consistency.ts'
import { decodeState, encodeState } from '#allocator/snapshot.ts'
import type { NetworkName } from '#model/ids.ts'
import { formatIp, parseIp } from '#model/ip.ts'
import { addSubnet, attach, Caller, create, detach, relabel, remove, removeHost } from './fixtures.ts'

/** The container ids that a name stands for. */
function named({ state }: Caller, network: string, name: string): string[] {
  return state.endpointsNamed(network as NetworkName, name).map(({ containerId }) => containerId)
}

function at({ state }: Caller, network: string, address: string): string | undefined {
  return state.endpointAt(network as NetworkName, parseIp(address))?.containerId
}

t.test('a name follows each change of the state', t => {
  const caller = Caller.raised()
  caller.do(create('blue', { subnet: 'fd00:6::/64' }))
  caller.do({ ...attach('red', 'c1'), name: 'web' })
  t.same(named(caller, 'red', 'web'), ['c1'], 'from before it was asked for')
  caller.do({ ...attach('red', 'c2', { host: 2 }), name: 'web' })
  t.same(named(caller, 'red', 'web'), ['c1', 'c2'])
  t.same(named(caller, 'blue', 'web'), [], 'in its own network alone')
  t.same(named(caller, 'nowhere', 'web'), [])
  caller.do(relabel('c1', { app: 'shop' }))
  t.match(caller.state.endpointsNamed('red' as NetworkName, 'c1'), [{ labels: { app: 'shop' } }], 'a new row')
  caller.do(detach('c1'))
  t.same(named(caller, 'red', 'web'), ['c2'])
  t.same(verify(caller.state), [])
  caller.do(removeHost('h2'))
  t.same(named(caller, 'red', 'web'), [])

  caller.do({ ...attach('blue', 'c3'), name: 'db' })
  t.same(named(caller, 'blue', 'db'), ['c3'])
  caller.do(addSubnet('blue', '10.6.0.0/24'))
  t.same(
    caller.state.endpointsNamed('blue' as NetworkName, 'db').map(({ address }) => formatIp(address)),
    ['10.6.0.2']
  )
  t.equal(at(caller, 'blue', '10.6.0.2'), 'c3')
  t.equal(at(caller, 'blue', 'fd00:6::2'), 'c3')
  t.equal(at(caller, 'blue', '10.6.0.3'), undefined)
  t.equal(at(caller, 'red', '10.6.0.2'), undefined)
  t.same(verify(caller.state), [])

  const restored = new Caller(decodeState(encodeState(caller.state)))
  t.same(named(restored, 'blue', 'db'), ['c3'])
  caller.do(remove('blue', true))
  t.same(named(caller, 'blue', 'db'), [])
  caller.do(create('blue'))
  t.same(named(caller, 'blue', 'db'), [], 'a network of the same name')
  t.end()
})

t.test('an index that lacks an endpoint, or has one too many, is found', t => {
  const caller = Caller.raised()
  caller.do(attach('red', 'c1'))
  named(caller, 'red', 'c1')
  const table = caller.state.tables.networks.get('red' as NetworkName)
  const [endpoint] = table?.byAddress.values() ?? []
  if (endpoint === undefined) throw new Error('no endpoint')
  table?.names?.remove(endpoint)
  t.match(verify(caller.state), [/c1.*is not found by its name/, /index by name has 0 entries/])
  table?.names?.add(endpoint)
  table?.names?.add({ ...endpoint })
  t.match(verify(caller.state), [/index by name has 2 entries/])
  t.end()
})
