import fc from 'fast-check'
import t from 'tap'
import { NameIndex } from '#allocator/name-index.ts'
import { idNameOf, ownNameOf } from '#model/dns-name.ts'
import { makeEndpoint, makeNetwork } from '#test/overlay/fixtures.ts'
import type { Endpoint } from '#model/endpoint.ts'
import type { ContainerId } from '#model/ids.ts'

const red = makeNetwork('red', 1)

function endpointOf(containerId: string, name = ''): Endpoint {
  const made = makeEndpoint(red, { container: 'x', host: 1, address: '10.1.0.2' })
  return { ...made, containerId: containerId as ContainerId, name }
}

t.test('a name goes before a container id, and endpoints share a name', t => {
  const [one, two, web] = [endpointOf('c1', 'web'), endpointOf('c2', 'WEB'), endpointOf('web')]
  const index = new NameIndex([one, web])
  t.same(index.find('web'), [one])
  t.same(index.find('c1'), [one])
  index.add(two)
  t.same(index.find('web'), [one, two])
  index.remove(one)
  index.remove(two)
  t.same(index.find('web'), [web])
  index.remove(web)
  t.same(index.find('web'), [])
  t.end()
})

t.test('it is always what an index made anew would be', t => {
  const ids = ['c1', 'c2', 'web', 'f'.repeat(64)]
  const names = ['', 'web', 'db', 'prod/web', 'c1', 'no name']
  const pool = ids.flatMap(id => names.map(name => endpointOf(id, name)))
  fc.assert(
    fc.property(fc.array(fc.nat(pool.length - 1), { maxLength: 60 }), toggles => {
      const index = new NameIndex([])
      const held = new Set<Endpoint>()
      for (const at of toggles) {
        const endpoint = pool[at]
        if (endpoint === undefined) continue
        if (held.delete(endpoint)) index.remove(endpoint)
        else {
          held.add(endpoint)
          index.add(endpoint)
        }
      }
      const anew = new NameIndex(held)
      const asked = pool.flatMap(one => [ownNameOf(one), idNameOf(one)]).filter(name => name !== null)
      return asked.every(name => new Set(index.find(name)).symmetricDifference(new Set(anew.find(name))).size === 0)
    })
  )
  t.end()
})
