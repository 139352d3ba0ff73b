import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { ContainerIndex } from '#allocator/container-index.ts'
import type { Endpoint } from '#model/endpoint.ts'
import { parseContainerId, parseIfName } from '#model/ids.ts'
import { attach, Caller } from './fixtures.ts'

const ids = ['a', 'b', 'c'].map(id => parseContainerId(id))
const ifnames = ['eth0', 'eth1', 'eth2'].map(name => parseIfName(name))

t.test('an index behaves like a plain list for any sequence of operations', t => {
  const sample = Caller.ready().endpoint(attach('red', 'x'))
  const pair = fc.record({ id: fc.constantFrom(...ids), ifname: fc.constantFrom(...ifnames) })
  const property = fc.property(fc.array(pair, { maxLength: 60 }), pairs => {
    const index = new ContainerIndex()
    let held: Endpoint[] = []
    for (const { id, ifname } of pairs) {
      const there = held.find(e => e.containerId === id && e.ifname === ifname)
      const endpoint = { ...sample, containerId: id, ifname }
      if (there === undefined) {
        assert.throws(() => index.remove(endpoint), /does not exist/)
        index.add(endpoint)
        held.push(endpoint)
      } else {
        assert.throws(() => index.add(endpoint), /already exists/)
        assert.throws(() => index.remove(endpoint), /does not exist/, 'an equal row is not the same row')
        index.remove(there)
        held = held.filter(e => e !== there)
      }
      assert.equal(index.size, held.length)
      for (const containerId of ids) {
        assert.deepEqual(
          index.of(containerId),
          held.filter(e => e.containerId === containerId)
        )
        for (const name of ifnames) {
          assert.equal(
            index.get(containerId, name),
            held.find(e => e.containerId === containerId && e.ifname === name)
          )
        }
      }
    }
  })
  fc.assert(property, { numRuns: 500 })
  t.pass()
  t.end()
})
