// Networks with IPv6 and the tables of our programs, in this kernel: passes, repairs, and a second subnet.

import t from 'tap'
import { parseIpv6 } from '#model/ipv6.ts'
import { parseMac } from '#model/mac.ts'
import { word } from '#overlay/plan/programs/entries.ts'
import { makeNetwork } from '../fixtures.ts'
import { device, dual, on, red, six, texts, World } from './programs-world.ts'
import { addressKey } from '../entry-bytes.ts'

const skip = process.getuid?.() === 0 ? false : 'needs root: BPF programs'
const a = on(1, 'a', 0)
const NOTHING: string[] = []

t.test('in networks with IPv6 its tables are written, read back and repaired as the others', { skip }, async t => {
  const [f, h, i] = [on(1, 'f', 3, dual), on(1, 'h', 5, six), on(2, 'i', 6, six)]
  // A MAC that was asked for tells no address: they are noted.
  const g = { ...on(2, 'g', 4, dual), mac: parseMac('0a:00:00:00:00:09') }
  const all = [a, f, g, h, i]
  const world = new World(t)
  world.build(all, [red, dual, six])
  t.same((await world.pass(all)).problems, [])
  t.same(world.held(), world.wanted(all))
  t.same(world.keys('vxm_neighbours6'), [dual.vni, dual.vni, six.vni], 'routers, and what was asked for')
  t.same(world.keys('vxm_neighbours'), [red.vni, dual.vni, dual.vni])
  t.same(texts((await world.pass(all)).attempted), NOTHING)
  const key = addressKey(dual.vni, parseIpv6('fd00:1::6'))
  const drifts: readonly [title: string, drift: () => void, ops: readonly string[]][] = [
    ['deleted', () => world.map('vxm_neighbours6').delete([key]), ['set 1 neighbours6 (vni 195)']],
    [
      'another MAC',
      () => world.map('vxm_neighbours6').set([{ key, value: new Uint8Array(8).fill(6) }]),
      ['set 1 neighbours6 (vni 195)']
    ],
    [
      'an address that nobody has',
      () => {
        const stranger = addressKey(six.vni, parseIpv6('fd00:1::99'))
        world.map('vxm_neighbours6').set([{ key: stranger, value: new Uint8Array(8) }])
      },
      ['delete 1 neighbours6 (vni 212)']
    ],
    [
      'a port with another address',
      () => {
        const port = word(world.scratch.ifindexOf(device(f)))
        const value = world.map('vxm_ports').get(port) ?? new Uint8Array()
        value[value.length - 1] = 7
        world.map('vxm_ports').set([{ key: port, value }])
      },
      ['set 1 ports (vni 195)']
    ]
  ]
  for (const [title, drift, ops] of drifts) {
    drift()
    t.same(texts((await world.pass(all)).done), ops, title)
    t.same(world.held(), world.wanted(all), title)
  }
  await world.pass([a])
  t.same(world.held(), world.wanted([a]))
  t.same(world.keys('vxm_neighbours6'), [])
})

t.test('a network that gets its second subnet changes its ports in place, and stops no program', { skip }, async t => {
  const [f, g] = [on(1, 'f', 3, dual), on(2, 'g', 4, dual)]
  const world = new World(t)
  world.build([f], [dual])
  const before = makeNetwork('dual', dual.vni)
  await world.pass([f, g], { networks: [before] })
  t.same(world.keys('vxm_neighbours6'), [])
  const { done } = await world.pass([f, g])
  t.same(
    texts(done),
    ['1 neighbours6', '1 networks', '2 stations', '1 ports'].map(what => `set ${what} (vni 195)`)
  )
  t.same(world.held(), world.wanted([f, g]))
})
