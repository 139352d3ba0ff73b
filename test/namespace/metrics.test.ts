// `http.listen` of a real agent: metrics that exist and move, and health checks that follow the agent's state.

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { stringify } from 'yaml'
import { FAMILIES } from '#metrics/families.ts'
import type { AgentEvent } from '#model/event.ts'
import { startDetached } from '#platform/process.ts'
import { debianProgram } from '../../bench/drivers/debian.ts'
import { bare } from '../lab/container.ts'
import type { LabHost } from '../lab/host.ts'
import { kill } from '../lab/kernel.ts'
import { expectOracle } from '../lab/oracle.ts'
import { tunnelOf } from '../lab/oracle-view.ts'
import { waitFor, waitForState } from '../lab/wait.ts'
import { figure, parseExposition, type MetricFamily } from '../metrics/exposition.ts'
import { meshLab, nth } from './mesh-lab.ts'
import { cannotRun } from '../lab/requirements.ts'
import { run } from '../lab/run.ts'

const PORT = 7_380

async function get(host: LabHost, path: string): Promise<{ status: number; text: string }> {
  const script = `fetch('http://127.0.0.1:${PORT}${path}').then(async r => console.log(JSON.stringify({ status: r.status, text: await r.text() })))`
  const { exitCode, stdout, stderr } = await host.exec(process.execPath, '-e', script)
  if (exitCode !== 0) throw new Error(stderr)
  return JSON.parse(stdout) as { status: number; text: string }
}

/** The kinds of the events that the agent remembers. */
async function remembered(host: LabHost): Promise<string[]> {
  const kinds: string[] = []
  for await (const line of host.api.lines('/v1/events?recent=true')) {
    const { kind } = JSON.parse(line) as AgentEvent
    if (kind === 'watching') break
    kinds.push(kind)
  }
  return kinds
}

async function scrape(host: LabHost): Promise<Map<string, MetricFamily>> {
  return parseExposition((await get(host, '/metrics')).text)
}

t.test('health and metrics of a live agent', { skip: cannotRun() }, async t => {
  const { lab, containers, endpoints } = await meshLab(t, { servers: 1, attached: 1 })
  const host = lab.host(1)
  const [second] = await lab.containers(['m2'])
  if (second === undefined) throw new Error('no container')
  await host.attach(second, 'red')

  await t.test('the agent is alive, ready and healthy', async t => {
    t.same(await get(host, '/livez'), { status: 200, text: 'ok\n' })
    t.same(await get(host, '/readyz'), { status: 200, text: 'ok\n' })
    const { text } = await waitForState('it is healthy', () => get(host, '/healthz?verbose'), { status: 200 })
    t.equal(text.match(/^\[\+\] \w+: ok$/gm)?.length, 6, text)
  })

  await t.test('metrics match the cluster', async t => {
    await expectOracle(lab)
    const families = await scrape(host)
    const status = await host.status()
    for (const [name, labels, value] of [
      ['vxmesh_build_info', { version: status.version }, 1],
      ['vxmesh_members', { status: 'alive' }, 1],
      ['vxmesh_members', { status: 'failed' }, 0],
      ['vxmesh_ready', {}, 1],
      ['vxmesh_hosts', {}, 1],
      ['vxmesh_networks', {}, 1],
      ['vxmesh_endpoints', {}, 2],
      ['vxmesh_local_endpoints', { network: 'red' }, 2],
      ['vxmesh_ipam_addresses_used', { network: 'red' }, 2],
      ['vxmesh_ipam_addresses_free', { network: 'red' }, 251],
      ['vxmesh_raft_is_leader', {}, 1],
      ['vxmesh_raft_has_leader', {}, 1],
      ['vxmesh_raft_term', {}, status.raft.term],
      ['vxmesh_raft_commit_index', {}, status.raft.commitIndex],
      ['vxmesh_raft_applied_index', {}, status.raft.appliedIndex],
      ['vxmesh_raft_leader_changes_total', {}, 1],
      ['vxmesh_feed_lag_entries', {}, 0],
      ['vxmesh_state_diverged', {}, 0]
    ] as const) {
      t.equal(figure(families, name, labels), value, `${name} ${JSON.stringify(labels)}`)
    }
    // Commits: the registration, the network, two endpoints.
    t.ok(figure(families, 'vxmesh_raft_commit_duration_seconds_count') >= 4)
    t.ok(figure(families, 'vxmesh_tunnel_reconcile_duration_seconds_count', { scope: 'full' }) >= 1)
  })

  await t.test('metrics move with traffic, changes and repairs; totals outlive an endpoint', async t => {
    const before = await scrape(host)
    const address = bare(nth(endpoints, 1).address)
    const { received } = await second.ping(address, { count: 20, intervalMs: 20 })
    t.equal(received, 20)
    const bytes = await waitFor('the pings are counted', async () => {
      const after = await scrape(host)
      const moved = (name: string): number =>
        figure(after, name, { network: 'red' }) - figure(before, name, { network: 'red' })
      const enough = ['receive', 'transmit'].every(
        way =>
          moved(`vxmesh_endpoint_${way}_bytes_total`) >= 2 * 20 * 98 &&
          moved(`vxmesh_endpoint_${way}_packets_total`) >= 40
      )
      const rate = figure(after, 'vxmesh_endpoint_receive_bytes_per_second', { network: 'red' })
      return enough && rate > 0 && figure(after, 'vxmesh_endpoint_receive_bytes_total', { network: 'red' })
    })
    const commits = figure(before, 'vxmesh_raft_commit_duration_seconds_count')
    await host.detach(second)
    const after = await scrape(host)
    t.equal(figure(after, 'vxmesh_raft_commit_duration_seconds_count'), commits + 1)
    t.equal(figure(after, 'vxmesh_local_endpoints', { network: 'red' }), 1)
    t.ok(figure(after, 'vxmesh_endpoint_receive_bytes_total', { network: 'red' }) >= bytes)

    await host.exec('ip', 'link', 'del', tunnelOf(nth(endpoints, 1)))
    await waitFor('the repair is counted', async () => {
      const repaired = (await scrape(host)).get('vxmesh_overlay_repaired_total')?.series ?? []
      return repaired.reduce((sum, one) => sum + one.value, 0) > 0
    })
  })

  await t.test('a later subscriber gets the recent events', async t => {
    const kinds = await remembered(host)
    for (const kind of [
      'raft',
      'member',
      'host-registered',
      'network-created',
      'endpoint-attached',
      'endpoint-detached'
    ]) {
      t.ok(kinds.includes(kind), kind)
    }
    t.ok(kinds.indexOf('endpoint-attached') < kinds.indexOf('endpoint-detached'), 'in its order')
  })

  await t.test('promtool accepts the metrics and the alerts of docs/operations.md', async t => {
    const promtool = await debianProgram('prometheus', 'usr/bin/promtool')
    const check = (text: string): ReturnType<typeof run> =>
      run(promtool, ['check', 'metrics'], { input: text, timeoutMs: 30_000 })
    const { text } = await get(host, '/metrics')
    t.match(await check(text), { exitCode: 0, stdout: '', stderr: '' })
    t.match(await check('# TYPE vxmesh_x counter\nvxmesh_x 1\n'), { exitCode: 3, stderr: /"_total" suffix/ })

    const page = readFileSync(join(import.meta.dirname, '../../docs/operations.md'), 'utf8')
    const alerts = [...page.matchAll(/^```promql\n([^]*?)\n```/gm)].flatMap(([, lines = '']) => lines.split('\n'))
    const file = join(host.dir, 'alerts.yaml')
    const checkRules = (expressions: readonly string[]): ReturnType<typeof run> => {
      const rules = expressions.map((expr, n) => ({ alert: `a${n}`, expr }))
      writeFileSync(file, stringify({ groups: [{ name: 'vxmesh', rules }] }))
      return run(promtool, ['check', 'rules', file], { timeoutMs: 30_000 })
    }
    t.match(await checkRules(alerts), { exitCode: 0, stdout: `SUCCESS: ${alerts.length} rules found` })
    t.ok(alerts.length > 15)
    t.match(await checkRules(['sum(vxmesh_hosts']), { exitCode: 1 }, 'it would reject a wrong expression')
  })

  await t.test('every metric of the table exists, and those of a live cluster are not zero', async t => {
    const families = await scrape(host)
    for (const { name, type } of FAMILIES) t.equal(families.get(name)?.type, type, name)
    for (const name of [
      ...['vxmesh_build_info', 'vxmesh_members', 'vxmesh_hosts', 'vxmesh_networks', 'vxmesh_endpoints'],
      ...['vxmesh_raft_term', 'vxmesh_raft_commit_index', 'vxmesh_raft_leader_changes_total'],
      ...['vxmesh_raft_commit_duration_seconds', 'vxmesh_tunnel_reconcile_duration_seconds'],
      ...['vxmesh_ipam_addresses_used', 'vxmesh_ipam_addresses_free', 'vxmesh_endpoint_receive_bytes_total'],
      ...['vxmesh_endpoint_transmit_packets_total', 'vxmesh_overlay_repaired_total', 'process_resident_memory_bytes']
    ]) {
      t.ok(
        families.get(name)?.series.some(({ value }) => value > 0),
        name
      )
    }
  })

  await t.test('a port in use fails the start with an error that names the key, and leaves nothing behind', async t => {
    await host.stopAgent()
    const script = `require('net').createServer().listen(${PORT}, '127.0.0.1')`
    const taker = ['netns', 'exec', host.namespace, process.execPath, '-e', script]
    const taking = await startDetached('ip', taker, { logFile: join(host.dir, 'taker.log') })
    t.teardown(() => kill(taking.pid))
    await waitFor('the port is in use', async () => (await host.exec('ss', '-Hltn', `sport = :${PORT}`)).stdout !== '')
    const { exitCode, stderr } = await host.cli('agent', '--config', host.configFile)
    t.equal(exitCode, 2)
    t.match(stderr, /http\.listen: 127\.0\.0\.1:7380 cannot be bound: .*EADDRINUSE.* \[ERR_CONFIG\]/)
    kill(taking.pid)
    await host.startAgent()
    await host.waitReady()
    t.same(await get(host, '/readyz'), { status: 200, text: 'ok\n' })
    t.notOk((await remembered(host)).includes('network-created'), 'replayed entries are no new events')
    t.equal((await nth(containers, 1).link())?.addresses.length, 1, 'the container keeps its address')
  })
})
