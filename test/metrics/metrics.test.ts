import { existsSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import t from 'tap'
import { FAMILIES } from '#metrics/families.ts'
import { Metrics } from '#metrics/metrics.ts'
import type { Clock } from '#platform/clock.ts'
import { run } from '#platform/process.ts'
import { ManualClock } from '#test/lab/manual-clock.ts'
import { figure, parseExposition } from './exposition.ts'
import { BLUE, SOME } from './figures.ts'

const PROMTOOL = '/usr/bin/promtool'

const EXPECTED: readonly [name: string, labels: Readonly<Record<string, string>>, value: number][] = [
  ['vxmesh_build_info', { version: '1.2.3' }, 1],
  ['vxmesh_members', { status: 'alive' }, 3],
  ['vxmesh_members', { status: 'leaving' }, 1],
  ['vxmesh_members', { status: 'left' }, 2],
  ['vxmesh_members', { status: 'failed' }, 4],
  ['vxmesh_ready', {}, 1],
  ['vxmesh_hosts', {}, 8],
  ['vxmesh_raft_term', {}, 11],
  ['vxmesh_raft_is_leader', {}, 1],
  ['vxmesh_raft_has_leader', {}, 1],
  ['vxmesh_raft_commit_index', {}, 101],
  ['vxmesh_raft_applied_index', {}, 99],
  ['vxmesh_raft_leader_changes_total', {}, 5],
  ['vxmesh_raft_proposal_retries_total', {}, 6],
  ['vxmesh_peer_messages_refused_total', {}, 9],
  ['vxmesh_feed_lag_entries', {}, 7],
  ['vxmesh_state_diverged', {}, 0],
  ['vxmesh_networks', {}, 9],
  ['vxmesh_endpoints', {}, 10],
  ['vxmesh_services', {}, 30],
  ['vxmesh_networks_unlisted', {}, 20],
  ['vxmesh_ipam_addresses_used', { network: 'blue' }, 12],
  ['vxmesh_ipam_addresses_free', { network: 'blue' }, 241],
  ['vxmesh_local_endpoints', { network: 'blue' }, 13],
  ['vxmesh_endpoint_receive_bytes_total', { network: 'blue' }, 14],
  ['vxmesh_endpoint_transmit_bytes_total', { network: 'blue' }, 15],
  ['vxmesh_endpoint_receive_packets_total', { network: 'blue' }, 16],
  ['vxmesh_endpoint_transmit_packets_total', { network: 'blue' }, 17],
  ['vxmesh_endpoint_receive_bytes_per_second', { network: 'blue' }, 180],
  ['vxmesh_endpoint_transmit_bytes_per_second', { network: 'blue' }, 19],
  ['vxmesh_overlay_drift', {}, 21],
  ['vxmesh_overlay_degraded', {}, 22],
  ['vxmesh_overlay_repaired_total', { kind: 'fdb-add' }, 23],
  ['vxmesh_overlay_repaired_total', { kind: 'endpoint-attach' }, 24],
  ['vxmesh_mesh_refused_connections_total', { reason: 'not a preamble' }, 25],
  ['vxmesh_mesh_refused_connections_total', { reason: 'wrong proof' }, 26],
  ['vxmesh_guard_dropped_packets_total', { reason: 'forged' }, 30],
  ['vxmesh_guard_dropped_packets_total', { reason: 'stranger' }, 31],
  ['vxmesh_dns_resolvers', {}, 32],
  ['vxmesh_dns_queries_total', { outcome: 'own' }, 33],
  ['vxmesh_dns_queries_total', { outcome: 'limited' }, 34],
  ['vxmesh_dns_cache_bytes', {}, 35],
  ['vxmesh_serf_dropped_packets_total', { sender: 'stranger' }, 27],
  ['vxmesh_serf_dropped_packets_total', { sender: 'member' }, 28],
  ['vxmesh_serf_log_dropped_bytes_total', {}, 29],
  ['vxmesh_raft_commit_duration_seconds_count', {}, 2],
  ['vxmesh_raft_commit_duration_seconds_sum', {}, 0.75],
  ['vxmesh_raft_commit_duration_seconds_bucket', { le: '0.25' }, 1],
  ['vxmesh_raft_commit_duration_seconds_bucket', { le: '0.5' }, 2],
  ['vxmesh_tunnel_reconcile_duration_seconds_count', { scope: 'full' }, 1],
  ['vxmesh_tunnel_reconcile_duration_seconds_sum', { scope: 'network' }, 0.5]
]

/** A clock whose periodic timer runs whenever the test says so. */
function lateClock(): { readonly clock: Clock; readonly advance: (ms: number) => void } {
  let nowMs = 0
  let tick = (): void => undefined
  const every: Clock['every'] = (_ms, run) => {
    tick = run
    return () => undefined
  }
  const advance = (ms: number): void => {
    nowMs += ms
    tick()
  }
  return { clock: { ...new ManualClock().clock, nowMs: () => nowMs, every }, advance }
}

function told(): Metrics {
  const metrics = new Metrics(() => SOME, new ManualClock().clock)
  for (const ms of [250, 500]) metrics.committed(ms)
  metrics.reconciled('full', 1_000)
  metrics.reconciled('network', 500)
  return metrics
}

t.test('every figure has its series with name and labels, and there are no others of ours', async t => {
  const families = parseExposition(await told().text())
  for (const [name, labels, value] of EXPECTED) t.equal(figure(families, name, labels), value, name)
  const series = [...families.values()].filter(({ name }) => name.startsWith('vxmesh_')).flatMap(f => f.series)
  const expected = new Set(EXPECTED.map(([name, labels]) => JSON.stringify([name, labels])))
  const others = series.filter(({ name, labels }) => !expected.has(JSON.stringify([name, labels])))
  t.same(
    others.filter(({ name }) => !/_duration_seconds_(bucket|sum|count)$/.test(name)),
    []
  )
})

t.test('the registry matches the table of metrics: names, types, help, labels', async t => {
  const families = parseExposition(await told().text())
  const ours = [...families.values()].filter(({ name }) => name.startsWith('vxmesh_'))
  const facts = (list: readonly { name: string; type: string; help: string }[]): string[] =>
    list.map(({ name, type, help }) => `${name} ${type} ${help}`).sort()
  t.same(facts(ours), facts(FAMILIES))
  for (const { name, label } of FAMILIES) {
    const labels = (families.get(name)?.series ?? []).flatMap(one =>
      Object.keys(one.labels).filter(key => key !== 'le')
    )
    t.same([...new Set(labels)], label === null ? [] : [label], name)
  }
  const page = readFileSync(resolve(import.meta.dirname, '../../docs/metrics.md'), 'utf8')
  t.same(
    [...page.matchAll(/^\| `(vxmesh_\w+)` \| (\w+) \| (?:`(\w+)`)? ?\|/gm)].map(([, ...facts]) =>
      facts.join(' ').trim()
    ),
    FAMILIES.map(({ name, type, label }) => `${name} ${type} ${label ?? ''}`.trim())
  )
})

t.test('process and event-loop metrics are included', async t => {
  const { clock, advance } = lateClock()
  const metrics = new Metrics(() => SOME, clock)
  t.match(await metrics.text(), /^nodejs_eventloop_lag_max_seconds NaN$/m, 'nothing was sampled yet')
  for (const lateMs of [0, 0, 0, 40]) advance(100 + lateMs)
  const families = parseExposition(await metrics.text())
  for (const name of ['process_resident_memory_bytes', 'process_cpu_seconds_total', 'nodejs_heap_size_used_bytes']) {
    t.ok(figure(families, name) > 0, name)
  }
  const lag = (name: string): number => figure(families, `nodejs_eventloop_lag_${name}_seconds`)
  t.ok(Math.abs(lag('max') - 0.04) < 0.001 && Math.abs(lag('p99') - 0.04) < 0.001, `${lag('max')}, ${lag('p99')}`)
  t.ok(lag('p50') < 1e-6 && Math.abs(lag('mean') - 0.01) < 0.001)
  advance(105)
  t.ok(Math.abs(figure(parseExposition(await metrics.text()), 'nodejs_eventloop_lag_max_seconds') - 0.005) < 0.001)
})

t.test('series of a removed network disappear, and counters are set, not added up', async t => {
  let figures = SOME
  const metrics = new Metrics(() => figures, new ManualClock().clock)
  await metrics.text()
  t.equal(figure(parseExposition(await metrics.text()), 'vxmesh_endpoint_receive_bytes_total', { network: BLUE }), 14)
  figures = { ...SOME, addresses: [], traffic: [] }
  const after = parseExposition(await metrics.text())
  t.same(after.get('vxmesh_endpoint_receive_bytes_total')?.series, [])
  t.same(after.get('vxmesh_ipam_addresses_used')?.series, [])
})

t.test('concurrent scrapes share one gathering; a failed one does not affect the next', async t => {
  let gathered = 0
  const metrics = new Metrics(() => {
    if (++gathered === 2) throw new Error('no figures')
    return SOME
  }, new ManualClock().clock)
  const texts = await Promise.all([metrics.text(), metrics.text(), metrics.text()])
  t.equal(gathered, 1)
  t.equal(new Set(texts).size, 1)
  await t.rejects(metrics.text(), /no figures/)
  t.match(await metrics.text(), /^vxmesh_raft_term 11$/m)
})

t.test('the strict parser refuses what the format forbids', t => {
  const head = '# HELP a b\n# TYPE a gauge\n'
  const histogram = '# HELP h b\n# TYPE h histogram\n'
  t.same([...parseExposition(`${head}a 1\na{x="y\\"\\n"} NaN\n`).values()][0]?.series[1]?.labels, { x: 'y"\n' })
  for (const bad of [
    'a 1\n',
    `${head}a 1`,
    `${head}a 1\na 1\n`,
    `${head}b 1\n`,
    `${head}a one\n`,
    `${head}a  1\n`,
    `${head}a{x=y} 1\n`,
    `${head}a{x="1",x="2"} 1\n`,
    `${head}a{x="\\q"} 1\n`,
    '# TYPE a gauge\na 1\n',
    '# HELP a b\n# TYPE a thing\na 1\n',
    `${head}${head}`,
    '# HELP a b\n# TYPE a counter\na -1\n',
    `${histogram}h_bucket{le="1"} 1\nh_sum 1\nh_count 1\n`,
    `${histogram}h_bucket{le="1"} 2\nh_bucket{le="+Inf"} 1\nh_sum 1\nh_count 1\n`,
    `${histogram}h_bucket{le="+Inf"} 1\nh_sum 1\nh_count 2\n`
  ]) {
    t.throws(() => parseExposition(bad), bad)
  }
  t.end()
})

t.test('promtool accepts the output', { skip: !existsSync(PROMTOOL) && 'no promtool here' }, async t => {
  const { exitCode, stdout, stderr } = await run(PROMTOOL, ['check', 'metrics'], { input: await told().text() })
  t.equal(exitCode, 0, `${stdout}${stderr}`)
})
