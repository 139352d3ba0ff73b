import { pino } from 'pino'
import t from 'tap'
import { Drift, type PassRecord } from '#agent/reconcile/drift.ts'
import { VxmeshError } from '#model/errors.ts'
import { parseVni, type Vni } from '#model/ids.ts'
import type { Network } from '#model/network.ts'
import type { OpNote, PartProblem, PartReport } from '#overlay/pass.ts'
import { desired } from '#overlay/plan/network/desired.ts'
import { byNetwork, makeEndpoint, makeHost, makeNetwork, peer } from '../../overlay/fixtures.ts'

const [red, blue] = [makeNetwork('red', 1), makeNetwork('blue', 2)]
const NOWHERE = parseVni(99)

function op(vni: Vni | null, change: Partial<OpNote> = {}): OpNote {
  return { kind: 'link-set', vni, removes: false, repairs: false, text: () => `set something of ${vni}`, ...change }
}

function report(change: Partial<PartReport>): PartReport {
  const nothing = { attempted: [], done: [], deferred: [], problems: [], missing: [], failures: [] }
  return { part: 'devices', concern: 'forwarding', ...nothing, ...change }
}

/** A pass over these networks, whose endpoint has this address. */
function pass(networks: readonly Network[], reports: readonly PartReport[] = [], address = '10.1.0.2'): PassRecord {
  const endpoints = byNetwork(
    networks.map(network => makeEndpoint(network, { container: `c${network.vni}`, host: 1, address }))
  )
  const common = { memberStatus: null, overlayMtu: 1450, vxlanPort: 4789 }
  return {
    desired: desired({
      ...common,
      self: peer(1),
      selfVtep: makeHost(1).vtep,
      networks,
      endpoints,
      hosts: [makeHost(1)]
    }),
    networks: new Map(networks.map(network => [network.vni, network])),
    reports
  }
}

function make(): { drift: Drift; lines: Record<string, unknown>[] } {
  const lines: Record<string, unknown>[] = []
  const stream = { write: (line: string) => lines.push(JSON.parse(line) as Record<string, unknown>) }
  return { drift: new Drift(pino({ level: 'info' }, stream)), lines }
}

const done = (...ops: readonly OpNote[]): readonly PartReport[] => [report({ done: ops, attempted: ops })]
const problem = (vni: Vni | null): PartProblem => ({ vni, error: new VxmeshError('ERR_KERNEL', 'no') })

t.test('ops are repairs while the network’s desired state is unchanged, and not after a change', async t => {
  const { drift } = make()
  drift.account(pass([red], done(op(red.vni))))
  t.strictSame(drift.repaired, {}, 'the first pass creates')
  drift.settleAll(pass([red]), new Map())
  drift.account(pass([red], done(op(red.vni), op(red.vni, { kind: 'fdb-set' }))))
  t.strictSame(drift.repaired, { 'link-set': 1, 'fdb-set': 1 })
  drift.account(pass([red, blue], done(op(blue.vni))))
  drift.account(pass([red], done(op(red.vni)), '10.1.0.3'))
  t.strictSame(
    drift.repaired,
    { 'link-set': 1, 'fdb-set': 1 },
    'another network, or other endpoints: changes of the state'
  )
})

t.test('ops for no network here count as drift only after a full pass', async t => {
  const { drift } = make()
  drift.account(pass([], done(op(null), op(NOWHERE))))
  t.strictSame(drift.repaired, {})
  drift.settleAll(pass([]), new Map())
  drift.account(pass([], done(op(null), op(NOWHERE))))
  t.strictSame(drift.repaired, { 'link-set': 2 })
})

t.test('removing a network that was here is no drift', async t => {
  const { drift } = make()
  drift.settleAll(pass([red]), new Map())
  drift.account(pass([], done(op(red.vni, { kind: 'device-delete' }))))
  t.strictSame(drift.repaired, {})
  drift.settle(red.vni, pass([]))
  drift.account(pass([], done(op(red.vni, { kind: 'device-delete' }))))
  t.strictSame(drift.repaired, { 'device-delete': 1 }, 'but removing what comes back later is')
})

t.test('no repair is counted where the pass left problems with devices or filters', async t => {
  const { drift } = make()
  drift.settleAll(pass([red, blue]), new Map())
  const devices = { ...report({ done: [op(red.vni), op(blue.vni), op(null)] }), problems: [problem(red.vni)] }
  const filters = report({ part: 'filters', concern: 'filter', problems: [problem(null)] })
  drift.account(pass([red, blue], [filters, devices]))
  t.strictSame(drift.repaired, { 'link-set': 1 }, 'blue alone')
  const routers = report({ part: 'gateways', concern: 'egress', problems: [problem(red.vni)] })
  drift.account(pass([red, blue], [...done(op(red.vni)), routers]))
  t.strictSame(drift.repaired, { 'link-set': 2 }, 'a problem with the router is none with the devices')
})

t.test('ops that a part marks as repairs count; its other ops do not', async t => {
  const { drift } = make()
  drift.settleAll(pass([red]), new Map())
  const ops = [op(red.vni, { kind: 'router-repair', repairs: true }), op(red.vni, { kind: 'host-routes-add' })]
  const routers = report({ part: 'gateways', concern: 'egress', done: ops })
  drift.account(pass([red], [routers]))
  t.strictSame(drift.repaired, { 'router-repair': 1 })
  drift.countRepairs([routers])
  t.strictSame(drift.repaired, { 'router-repair': 2 })
  drift.account(pass([red], [report({ part: 'filters', concern: 'filter', done: ops.slice(1) })]))
  t.strictSame(drift.repaired, { 'router-repair': 2 }, 'nor do filters')
})

t.test('a network is settled while the state holds the same object for it', async t => {
  const { drift } = make()
  t.equal(drift.isSettled(red), false)
  drift.settle(red.vni, pass([red]))
  t.equal(drift.isSettled(red), true)
  t.equal(drift.isSettled({ ...red }), false, 'an equal one may have changed meanwhile')
  drift.settleAll(pass([red, blue]), new Map([[red.vni, []]]))
  t.equal(drift.isSettled(red), false, 'it had problems')
  t.equal(drift.isSettled(blue), true)
  drift.settle(blue.vni, pass([red]))
  t.equal(drift.isSettled(blue), false, 'it is not here any more')
})

t.test('of many repairs the first twenty are logged, then every thousandth', async t => {
  const { drift, lines } = make()
  for (let n = 0; n < 2_000; n++) drift.count('fdb-set', 'set an entry')
  drift.count('link-set', 'set a link')
  t.equal(lines.length, 20 + 2 + 1)
  t.match(lines[0], { msg: 'drift repaired', kind: 'fdb-set', what: 'set an entry', count: 1 })
  t.match(lines.at(-2), { count: 2_000 })
  t.match(lines.at(-1), { kind: 'link-set', count: 1 })
})
