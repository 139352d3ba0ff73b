import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { desired, type DesiredHost, type DesiredNetwork } from '#overlay/plan/network/desired.ts'
import { OVERLAY_GROUP } from '#overlay/plan/network/names.ts'
import type { Observed, ObservedLink } from '#overlay/plan/network/observed.ts'
import { describe, OP_TRAITS, PORT_FLAGS } from '#overlay/plan/network/op.ts'
import { plan } from '#overlay/plan/network/plan-network.ts'
import { parseIfName, parseVni } from '#model/ids.ts'
import { addressAt } from '#model/ip.ts'
import { anyCase, settle } from '../../arbitraries.ts'
import { byNetwork, makeEndpoint, makeHost, makeNetwork, peer } from '../../fixtures.ts'
import { SimulatedKernel } from '../../simulated-kernel.ts'

/** Describes how a network differs from its desired state, independently of the planner. */
function differences(network: DesiredNetwork, links: ReadonlyMap<string, ObservedLink>): string[] {
  const wrong: string[] = []
  const check = (what: string, got: unknown, want: unknown): void => {
    if (JSON.stringify(got) !== JSON.stringify(want)) wrong.push(`${network.name} ${what}: ${JSON.stringify(got)}`)
  }
  const sorted = (table: Iterable<readonly [unknown, unknown]>): string[] =>
    [...table].map(entry => JSON.stringify(entry)).sort()
  const common = (link: ObservedLink, alias: string): void => {
    if (link.kind === 'foreign') return
    check(
      `${link.name} common`,
      [link.alias, link.group, link.mtu, link.up, link.ipv6],
      [alias, OVERLAY_GROUP, network.mtu, true, 'off']
    )
  }
  const flags = (link: Extract<ObservedLink, { kind: 'vxlan' | 'veth' }>, role: 'vxlan' | 'container'): void => {
    check(`${link.name} master`, link.master, network.bridge)
    check(`${link.name} learning`, link.flags?.learning, false)
    check(`${link.name} flood`, link.flags?.unicastFlood, PORT_FLAGS[role].unicastFlood)
    if (link.flags?.neighSuppress !== null) check('suppress', link.flags?.neighSuppress, PORT_FLAGS[role].neighSuppress)
  }
  const bridge = links.get(network.bridge)
  const vxlan = links.get(network.vxlan)
  if (bridge?.kind !== 'bridge' || vxlan?.kind !== 'vxlan') return [`${network.name} lacks a device`]
  common(bridge, network.alias)
  common(vxlan, network.alias)
  check('bridge MAC', bridge.mac, network.bridgeMac)
  check('snooping', bridge.multicastSnooping, false)
  check('neighbours', sorted(bridge.neighbours), sorted(network.neighbours))
  check(
    'tunnel',
    [vxlan.vni, vxlan.local, vxlan.port, vxlan.learning, vxlan.odd, vxlan.floodOdd],
    [network.vni, network.vtep, network.port, false, false, false]
  )
  flags(vxlan, 'vxlan')
  check('flood', [...vxlan.flood].sort(), [...network.flood].sort())
  check(
    'entries',
    sorted([...vxlan.entries].map(([mac, e]) => [mac, [e.vtep, e.bridged]])),
    sorted([...network.entries].map(([mac, vtep]) => [mac, [vtep, 'static']]))
  )
  for (const endpoint of network.endpoints.values()) {
    const link = links.get(endpoint.device)
    if (link?.kind !== 'veth' || link.alias !== endpoint.alias) continue
    common(link, endpoint.alias)
    flags(link, 'container')
    check(`${link.name} MACs`, [...link.macs], [[endpoint.mac, 'static']])
  }
  return wrong
}

/** Networks without a conflict with a foreign object. */
function free(want: DesiredHost, links: ReadonlyMap<string, ObservedLink>): DesiredNetwork[] {
  const foreign = (name: string): boolean => links.get(name)?.kind === 'foreign'
  return [...want.networks.values()].filter(n => !foreign(n.bridge) && !foreign(n.vxlan))
}

function foreignOf(observed: Observed): ObservedLink[] {
  return [...observed.links.values()].filter(link => link.kind === 'foreign')
}

const runs = { numRuns: 2000 }

t.test('executing a plan brings any kernel into the desired state', async t => {
  fc.assert(
    fc.property(anyCase, ({ input, kernel }) => {
      const want = desired(input)
      const before = kernel.observe()
      kernel.run(plan(want, before).ops)
      const after = kernel.observe()
      assert.deepEqual(
        free(want, after.links).flatMap(n => differences(n, after.links)),
        []
      )
      assert.deepEqual(foreignOf(after), foreignOf(before), 'foreign devices are untouched')
      const known = new Set([...want.networks.values()].flatMap(n => [n.bridge, n.vxlan, ...n.endpoints.keys()]))
      const orphans = [...after.links.values()].filter(link => link.kind !== 'foreign' && !known.has(link.name))
      assert.deepEqual(orphans, [], 'nothing of ours is left over')
    }),
    runs
  )
  t.pass()
})

t.test('a plan for a kernel that is as desired is empty', async t => {
  fc.assert(
    fc.property(anyCase, ({ input, kernel }) => {
      const want = desired(input)
      kernel.run(plan(want, kernel.observe()).ops)
      assert.deepEqual(plan(want, kernel.observe()).ops.map(describe), [])
    }),
    runs
  )
  t.pass()
})

t.test('a plan that was cut off anywhere is completed by the next one', async t => {
  fc.assert(
    fc.property(anyCase, fc.nat({ max: 60 }), ({ input, kernel }, cut) => {
      const want = desired(input)
      const { ops } = plan(want, kernel.observe())
      kernel.run(ops.slice(0, cut % (ops.length + 1)))
      kernel.run(plan(want, kernel.observe()).ops)
      assert.deepEqual(plan(want, kernel.observe()).ops.map(describe), [])
    }),
    runs
  )
  t.pass()
})

t.test('an op done twice does no harm', async t => {
  fc.assert(
    fc.property(anyCase, ({ input, kernel }) => {
      const want = desired(input)
      for (const op of plan(want, kernel.observe()).ops) {
        kernel.run([op])
        // Creation is the exception: it is refused, so that no device of another is taken over.
        if (op.kind !== 'bridge-create' && op.kind !== 'vxlan-create') kernel.run([op])
      }
      assert.deepEqual(plan(want, kernel.observe()).ops.map(describe), [])
    }),
    { numRuns: 500 }
  )
  t.pass()
})

t.test('within a network devices come before entries, and new entries before stale ones', async t => {
  fc.assert(
    fc.property(anyCase, ({ input, kernel }) => {
      const { ops } = plan(desired(input), kernel.observe())
      for (const vni of new Set(ops.map(op => op.vni))) {
        const mine = ops.filter(op => op.vni === vni)
        const remade = mine.filter(op => op.kind === 'vxlan-create').map(op => op.device)
        const stage = mine.map(op => {
          if (op.kind === 'device-delete') return remade.includes(op.device) ? 0 : 3
          return OP_TRAITS[op.kind].target === 'device' ? 0 : op.kind.endsWith('-delete') ? 2 : 1
        })
        assert.deepEqual(stage, [...stage].sort())
      }
    }),
    { numRuns: 500 }
  )
  t.pass()
})

const red = makeNetwork('red', 0xabc)
const mine = makeEndpoint(red, { container: 'c1', host: 1, address: '10.1.0.2' })
const theirs = makeEndpoint(red, { container: 'c2', host: 2, address: '10.1.0.3' })
const input = {
  self: peer(1),
  selfVtep: makeHost(1).vtep,
  networks: [red],
  endpoints: byNetwork([mine, theirs]),
  hosts: [makeHost(1), makeHost(2)],
  memberStatus: null,
  overlayMtu: 1450,
  vxlanPort: 4789
}

t.test('a foreign bridge stops its network and nothing else', async t => {
  const blue = makeNetwork('blue', 0xdef)
  const other = makeEndpoint(blue, { container: 'c3', host: 1, address: '10.1.0.2' })
  const want = desired({ ...input, networks: [red, blue], endpoints: byNetwork([mine, other]) })
  const kernel = new SimulatedKernel()
  const name = parseIfName('vb000abc')
  kernel.links.set(name, { kind: 'foreign', name, ifindex: 7, reason: 'has no alias of ours' })
  const { ops, conflicts } = plan(want, kernel.observe())
  t.strictSame(conflicts, [{ vni: red.vni, device: 'vb000abc', reason: 'has no alias of ours' }])
  t.strictSame([...new Set(ops.map(op => op.vni))], [blue.vni])
})

t.test("another endpoint's veth under our name is a conflict, not an orphan", async t => {
  const want = desired(input)
  const kernel = new SimulatedKernel()
  settle(kernel, want, () => true)
  const [device] = want.networks.get(red.vni)?.endpoints.keys() ?? []
  const link = kernel.links.get(device ?? '')
  if (link?.kind !== 'veth') throw new Error('no veth')
  kernel.links.set(link.name, { ...link, alias: 'vxmesh endpoint other/eth0' })
  const { ops, conflicts } = plan(want, kernel.observe())
  t.strictSame(ops, [])
  t.match(conflicts, [{ device: link.name, reason: /other\/eth0/ }])
})

t.test('a local endpoint without a veth is reported as missing', async t => {
  const kernel = new SimulatedKernel()
  const want = desired(input)
  t.strictSame(plan(want, kernel.observe()).missing, [{ vni: red.vni, endpoint: 'c1/eth0' }])
  settle(kernel, want, () => true)
  t.strictSame(plan(want, kernel.observe()).missing, [])
})

t.test('an observation of one network says nothing about the others', async t => {
  const want = desired(input)
  const scoped: Observed = { links: new Map(), scope: parseVni(99) }
  t.strictSame(plan(want, scoped), { ops: [], conflicts: [], missing: [] })
  t.not(plan(want, { links: new Map(), scope: red.vni }).ops.length, 0)
})

t.test('a change of this host’s VTEP keeps the device, a change of the UDP port recreates it', async t => {
  const kernel = new SimulatedKernel()
  settle(kernel, desired(input), () => true)
  const moved = plan(desired({ ...input, selfVtep: makeHost(9).vtep }), kernel.observe()).ops
  t.strictSame(
    moved.map(op => op.kind),
    ['vxlan-set']
  )
  const ported = plan(desired({ ...input, vxlanPort: 8472 }), kernel.observe()).ops
  t.strictSame(
    ported.map(op => op.kind),
    ['device-delete', 'vxlan-create', 'flood-add', 'fdb-set']
  )
})

t.test('a network may have more entries than a call takes arguments', async t => {
  const many = Array.from({ length: 150_000 }, (_, n) => ({
    ...theirs,
    address: addressAt(red.subnet, 3 + n),
    mac: `02:bc:00:${[n >> 16, n >> 8, n].map(b => (b & 0xff).toString(16).padStart(2, '0')).join(':')}` as typeof theirs.mac
  }))
  const want = desired({ ...input, endpoints: byNetwork([mine]).set(red.name, [mine, ...many]) })
  t.equal(plan(want, new SimulatedKernel().observe()).ops.filter(op => op.kind === 'fdb-set').length, many.length)
})

t.test('every op is described with its device', async t => {
  fc.assert(
    fc.property(anyCase, ({ input, kernel }) => {
      for (const op of plan(desired(input), kernel.observe()).ops) {
        assert.ok(describe(op).includes(op.device))
        assert.doesNotMatch(describe(op), /undefined|object/)
      }
    }),
    { numRuns: 200 }
  )
  t.pass()
})
