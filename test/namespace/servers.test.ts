// Changes of the server set and bounded logs, with real agents: snapshots, compaction, catch-up from a snapshot, servers
// added and removed, leadership transferred. All hosts end with the same state.

import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { RaftPeerView } from '#model/views.ts'
import type { LabHost } from '../lab/host.ts'
import { Lab } from '../lab/lab.ts'
import { waitFor, waitForState } from '../lab/wait.ts'

const SNAPSHOT_BYTES = 16 * 1024

if (process.getuid?.() !== 0) {
  t.plan(0, 'needs root: network namespaces')
  process.exit(0)
}

const lab = await Lab.create()
t.teardown(() => lab.destroy())
let made = 0

const few = { join: ['192.0.2.1'], snapshotBytes: SNAPSHOT_BYTES } as const
for (let n = 0; n < 3; n++) await lab.addHost({ ...few, bootstrapExpect: 3 })
await Promise.all(lab.hosts.map(host => host.startAgent()))
await Promise.all(lab.hosts.map(host => host.waitReady()))

async function makeNetworks(host: LabHost, count: number): Promise<void> {
  for (let n = 0; n < count; n += 20) {
    const names = Array.from({ length: 20 }, () => `n${made++}`)
    await Promise.all(names.map(name => host.api.call('POST', '/v1/networks', { name, subnet: '10.0.0.0/24' })))
  }
}

function snapshotsOf(host: LabHost): string[] {
  const dir = join(host.dir, 'data/snapshot')
  return existsSync(dir) ? readdirSync(dir).filter(name => name.endsWith('.snap')) : []
}

async function allEqual(hosts: readonly LabHost[]): Promise<void> {
  await waitFor('all hosts have the same state', async () => {
    const statuses = await Promise.all(hosts.map(host => host.status()))
    return (
      new Set(statuses.map(({ digest }) => digest)).size === 1 && statuses.every(({ differsAt }) => differsAt === null)
    )
  })
}

/** The leader, which executes the request itself instead of forwarding it. */
async function leading(): Promise<LabHost> {
  return waitFor('a host leads', async () => {
    for (const host of lab.hosts) if ((await host.status()).raft.role === 'leader') return host
    return null
  })
}

async function peers(host: LabHost): Promise<RaftPeerView[]> {
  return (await host.api.call('GET', '/v1/raft/peers')) as RaftPeerView[]
}

t.test('the log is compacted behind a snapshot, one on each host', async t => {
  await makeNetworks(lab.host(1), 300)
  await waitFor('each has a snapshot', () => lab.hosts.every(host => snapshotsOf(host).length > 0))
  await allEqual(lab.hosts)
  for (const host of lab.hosts) {
    t.ok(await waitFor(`${host.name} keeps one snapshot`, () => snapshotsOf(host).length === 1))
  }
})

t.test('servers that restart all at once recover everything from their snapshots', async t => {
  const { digest, networks } = await lab.host(1).status()
  await Promise.all(lab.hosts.map(host => host.killAgent()))
  await Promise.all(lab.hosts.map(host => host.startAgent()))
  await Promise.all(lab.hosts.map(host => host.waitReady()))
  // A ready host knows the leader; the commit index may arrive with the leader's first heartbeat after that.
  await waitForState('it has applied its log', () => lab.host(2).status(), { networks })
  t.not(digest, '')
  await allEqual(lab.hosts)
})

t.test('a new host gets the state as a snapshot, because every log is compacted', async t => {
  const host = await lab.addHost({ ...few, role: 'client' })
  await host.startAgent()
  await host.waitReady()
  await allEqual(lab.hosts)
  await makeNetworks(host, 100)
  await allEqual(lab.hosts)
  await waitFor('it takes its own snapshots', () => snapshotsOf(host).length > 0)
  await host.killAgent()
  await host.startAgent()
  await host.waitReady()
  t.ok(await waitForState('it has every network', () => host.status(), { networks: made }))
})

t.test('a host that runs as a server is added, catches up and votes', async t => {
  const host = await lab.addHost({ ...few, role: 'server', bootstrapExpect: 3 })
  await host.startAgent()
  await host.waitReady()
  const after = await (await leading()).cliJson<RaftPeerView[]>('raft', 'add', host.name)
  t.equal(after.filter(({ voter }) => voter).length, 4)
  await waitFor('it becomes a follower', async () => (await host.status()).raft.role === 'follower')
  await makeNetworks(host, 20)
  await allEqual(lab.hosts)
  const again = await lab.host(1).cli('raft', 'add', host.name)
  t.equal(again.exitCode, 5, again.stderr)
  const client = await lab.host(1).cli('raft', 'add', 'h4')
  t.equal(client.exitCode, 2, client.stderr)
  t.equal((await lab.host(1).cli('raft', 'add', 'nobody')).exitCode, 4)
})

t.test('leadership is transferred to the named server, whichever host is asked', async t => {
  for (const [name, asked] of [
    ['h5', lab.host(1)],
    ['h2', lab.host(4)],
    ['h5', lab.host(2)]
  ] as const) {
    const after = await asked.cliJson<RaftPeerView[]>('raft', 'transfer', name)
    t.equal(after.find(({ state }) => state === 'leader')?.name, name)
  }
  await makeNetworks(lab.host(3), 20)
})

t.test('a server that was cut off while it was removed learns of it after its restart', async t => {
  const away = lab.host(3)
  await away.killHost()
  await waitFor('it is failed', async () => (await lab.host(2).members()).some(({ status }) => status === 'failed'))
  await lab.host(2).cliJson('raft', 'remove', away.name)
  await makeNetworks(lab.host(2), 20)
  await away.linkUp()
  await away.startAgent()
  const isClient = async (): Promise<boolean> => (await away.status()).raft.role === 'client'
  await waitFor('it is a client', isClient, { timeoutMs: 20_000 })
  await makeNetworks(away, 20)
  await allEqual(lab.hosts)
  const refused = await away.cli('raft', 'add', away.name)
  t.match([refused.exitCode, refused.stderr], [1, /run this on a server/], 'a client does not make itself a server')
  const after = await lab.host(2).cliJson<RaftPeerView[]>('raft', 'add', away.name)
  t.ok(after.some(({ name, voter }) => name === away.name && voter))
})

t.test('a removed server, even the leader, becomes a client that follows the feed', async t => {
  for (const name of ['h1', 'h5']) {
    const host = lab.hosts.find(one => one.name === name) ?? lab.host(1)
    const after = await lab.host(2).cliJson<RaftPeerView[]>('raft', 'remove', name)
    t.notOk(after.some(peer => peer.name === name))
    await waitFor(`${name} is a client`, async () => (await host.status()).raft.role === 'client', {
      timeoutMs: 20_000
    })
    await makeNetworks(lab.host(2), 20)
    await allEqual(lab.hosts)
  }
  t.equal((await peers(lab.host(2))).length, 2)
  t.equal((await lab.host(2).cli('raft', 'remove', 'h4')).exitCode, 4)
})

t.test('a removed server is added again and stays a server when all restart', async t => {
  await lab.host(2).cliJson('raft', 'add', 'h1')
  await Promise.all(lab.hosts.map(host => host.killAgent()))
  await Promise.all(lab.hosts.map(host => host.startAgent()))
  await Promise.all(lab.hosts.map(host => host.waitReady()))
  t.same((await peers(lab.host(3))).map(({ name, voter }) => [name, voter]).sort(), [
    ['h1', true],
    ['h2', true],
    ['h3', true]
  ])
  t.equal((await lab.host(5).status()).raft.role, 'client')
  await makeNetworks(lab.host(5), 20)
  await allEqual(lab.hosts)
  t.equal((await lab.host(4).status()).networks, made)
})
