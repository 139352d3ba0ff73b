// A backup survives the loss of all hosts: three new ones with other addresses found a cluster from it, with every network
// and allocation. A host of the old cluster that returns is refused and reports why.

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { EndpointView, HostView, NetworkView, SnapshotView, StatusView } from '#model/views.ts'
import type { LabHost } from '../lab/host.ts'
import { Lab } from '../lab/lab.ts'
import { waitFor, waitForState } from '../lab/wait.ts'

if (process.getuid?.() !== 0) {
  t.plan(0, 'needs root: network namespaces')
  process.exit(0)
}

const lab = await Lab.create()
t.teardown(() => lab.destroy())
const file = join(lab.dir, 'backup.snap')
const old = await lab.addServers(3)
/** Hosts four to six: new addresses and keys, the old names. */
const fresh: LabHost[] = []

async function networks(host: LabHost): Promise<NetworkView[]> {
  return (await host.cliJson<NetworkView[]>('network', 'list')).sort((a, b) => a.vni - b.vni)
}

async function endpoints(host: LabHost): Promise<EndpointView[]> {
  const all = await host.cliJson<EndpointView[]>('endpoint', 'list')
  return all.sort((a, b) => (a.containerId < b.containerId ? -1 : 1))
}

const brief = (rows: readonly EndpointView[]): unknown[] =>
  rows.map(({ containerId, network, address, mac, vni, host }) => ({ containerId, network, address, mac, vni, host }))

let before: { networks: NetworkView[]; endpoints: EndpointView[]; status: StatusView } | undefined

t.test('a backup holds everything that was acknowledged, whichever host saves it', async t => {
  const [first, second] = [lab.host(1), lab.host(2)]
  for (const [name, subnet] of [
    ['red', '10.1.0.0/24'],
    ['blue', '10.1.0.0/24'],
    ['green', '10.3.0.0/16']
  ] as const) {
    await first.api.call('POST', '/v1/networks', { name, subnet })
  }
  const containers = await lab.containers(['c1', 'c2', 'c3', 'c4'])
  for (const [n, container] of containers.entries()) {
    await lab.host((n % 3) + 1).attach(container, n % 2 === 0 ? 'red' : 'blue')
  }
  for (const host of old) {
    // Each save follows a change that another host acknowledged.
    await second.api.call('POST', '/v1/networks', { name: `of-${host.name}`, subnet: '10.9.0.0/24' })
    const saved = await host.cliJson<SnapshotView>('snapshot', 'save', file)
    t.match(saved, { networks: (await networks(second)).length, endpoints: 4, hosts: 3 }, host.name)
  }
  const inspected = await first.cliJson<SnapshotView>('snapshot', 'inspect', file)
  const status = await waitForState('this host has all that was saved', () => first.status(), {
    digest: inspected.digest
  })
  before = { networks: await networks(first), endpoints: await endpoints(first), status }
  t.match(inspected, { cluster: status.cluster, servers: ['h1', 'h2', 'h3'] })
})

t.test('without a majority a save fails, and --stale saves what this host has', async t => {
  const host = lab.host(1)
  await lab.host(2).killHost()
  await lab.host(3).killHost()
  await waitFor('no leader is known', async () => {
    const { exitCode, stderr } = await host.cli('snapshot', 'save', join(lab.dir, 'refused.snap'))
    return exitCode === 6 && stderr.includes('ERR_NO_QUORUM')
  })
  t.notOk(existsSync(join(lab.dir, 'refused.snap')))
  const stale = await host.cliJson<SnapshotView>('snapshot', 'save', '--stale', join(lab.dir, 'stale.snap'))
  t.match(stale, { networks: before?.networks.length, endpoints: 4 })
  await host.killHost()
})

t.test('three new servers found a cluster from it, although only one of them was given it', async t => {
  for (const n of [4, 5, 6]) {
    const settings = { name: `h${n - 3}` }
    fresh.push(await lab.addHost({ bootstrapExpect: 3, join: ['192.0.2.4'], settings }))
  }
  const [first, second, third] = fresh as [LabHost, LabHost, LabHost]
  const restore = (host: LabHost): Promise<{ exitCode: number; stderr: string }> =>
    host.cli('snapshot', 'restore', file, '--config', host.configFile)
  t.match(await restore(second), { exitCode: 0 })
  await second.startAgent()
  await first.startAgent()
  await waitFor('it reports what it waits for', async () => (await second.status()).trouble?.includes('2 of 3 servers'))
  t.match(await restore(second), { exitCode: 2, stderr: /dataDir: .* is in use by the agent/ })
  await third.startAgent()
  const statuses = await Promise.all(fresh.map(host => host.waitReady()))
  t.equal(new Set(statuses.map(({ cluster }) => cluster)).size, 1)
  t.not(statuses[0]?.cluster, before?.status.cluster, 'it is another cluster')
  await waitFor('all have the same state', async () => {
    const all = await Promise.all(fresh.map(host => host.status()))
    return new Set(all.map(({ digest }) => digest)).size === 1 && all.every(({ trouble }) => trouble === null)
  })
  for (const host of fresh) {
    const volatile = (rows: readonly NetworkView[] = []): unknown[] => rows.map(({ mtu: _, ...row }) => row)
    t.same(volatile(await networks(host)), volatile(before?.networks), host.name)
    t.same(brief(await endpoints(host)), brief(before?.endpoints ?? []), host.name)
    t.notOk(existsSync(join(host.dir, 'data/restore.snap')), 'the restored state is in the log')
  }
  t.match(await restore(second), { exitCode: 2 })
})

t.test('the containers get their addresses back, and no other container gets them', async t => {
  const [first, , third] = fresh as [LabHost, LabHost, LabHost]
  const [again, other] = (await lab.containers(['n1', 'n2'])) as [never, never]
  const c1 = { name: 'c1', netns: (again as { netns: string }).netns } as never
  const elsewhere = await third.cli(
    'endpoint',
    'attach',
    '--network',
    'red',
    '--container-id',
    'c1',
    '--netns',
    (again as { netns: string }).netns
  )
  t.equal(elsewhere.exitCode, 5, elsewhere.stderr)
  const endpoint = await first.attach(c1, 'red')
  t.equal(endpoint.address, before?.endpoints.find(({ containerId }) => containerId === 'c1')?.address)
  const added = await third.attach(other, 'red')
  const taken = (await endpoints(third)).filter(({ network }) => network === 'red').map(({ address }) => address)
  t.equal(new Set(taken).size, taken.length, taken.join(' '))
  t.ok(taken.includes(added.address))
  const hosts = await first.cliJson<HostView[]>('host', 'list')
  // The old h1 had c1 and c4, h2 had c2, h3 had c3: all but c1 have not returned.
  t.same(
    hosts
      .filter(({ vtep }) => vtep === '')
      .map(row => [row.name, row.endpoints])
      .sort(),
    [
      ['h1', 1],
      ['h2', 1],
      ['h3', 1]
    ]
  )
  const removed = await first.cliJson<HostView>('host', 'remove', 'h1')
  t.match(removed, { vtep: '', endpoints: 1 })
  t.match(await first.cliJson<HostView>('host', 'show', 'h1'), { vtep: '192.0.2.4', endpoints: 1 })
})

t.test('a host of the old cluster is refused and reports why; the new cluster continues', async t => {
  const stray = lab.host(1)
  const [first] = fresh as [LabHost]
  await stray.linkUp()
  await stray.configure({
    clusterKeyFile: lab.keyFile,
    bootstrapExpect: 3,
    join: ['192.0.2.4'],
    settings: { name: 'stray' }
  })
  await stray.startAgent()
  const why = await waitFor('it reports why', async () => (await stray.status()).trouble, { timeoutMs: 20_000 })
  const cluster = (await first.status()).cluster ?? ''
  t.match(why, `of cluster ${cluster}, and this host belongs to cluster ${before?.status.cluster ?? ''}`)
  t.match((await stray.cli('status')).stdout, /^! +.*refuse each other/)
  const refused = await stray.cli('network', 'create', 'stray', '--subnet', '10.8.0.0/24')
  t.equal(refused.exitCode, 6, refused.stderr)
  await waitFor('the new cluster sees it', async () => (await first.members()).some(({ name }) => name === 'stray'))
  await first.api.call('POST', '/v1/networks', { name: 'later', subnet: '10.8.0.0/24' })
  t.notOk((await first.cliJson<HostView[]>('host', 'list')).some(({ name }) => name === 'stray'))
  t.notOk(
    (await networks(stray)).some(({ name }) => name === 'later'),
    'no change of the new cluster reaches it'
  )
})

t.test('the new servers restart from their own disks', async t => {
  await Promise.all(fresh.map(host => host.killAgent()))
  await lab.host(1).killAgent()
  await Promise.all(fresh.map(host => host.startAgent()))
  await Promise.all(fresh.map(host => host.waitReady()))
  for (const host of fresh) {
    const hasAll = async (): Promise<boolean> => (await networks(host)).some(({ name }) => name === 'later')
    t.ok(await waitFor(`${host.name} has every network`, hasAll))
  }
})
