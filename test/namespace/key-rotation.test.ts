// The cluster key is rotated as docs/security.md describes: the control plane pauses for a moment, containers do not.

import { copyFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { generateClusterKey } from '#config/cluster-key.ts'
import { bare, type LabContainer } from '../lab/container.ts'
import { Lab } from '../lab/lab.ts'
import { countReplies } from '../lab/ping.ts'
import { waitFor, waitForState } from '../lab/wait.ts'
import { cannotRun } from '../lab/requirements.ts'

const MS_A_PING = 10

t.test('a new key on every host: no packet is lost, and the old key opens nothing', { skip: cannotRun() }, async t => {
  const lab = await Lab.create()
  t.teardown(() => lab.destroy())
  const hosts = await lab.addServers(3, { clients: 1 })
  const [servers, client] = [hosts.slice(0, 3), lab.host(4)]
  const h1 = lab.host(1)
  await h1.cliJson('network', 'create', 'blue', '--subnet', '10.1.0.0/24')
  const [one, two, three] = (await lab.containers(['one', 'two', 'three'])) as [
    LabContainer,
    LabContainer,
    LabContainer
  ]
  await h1.attach(one, 'blue')
  const { address } = await client.attach(two, 'blue')
  const { cluster } = await h1.status()
  const pings = one.startPing(address, { count: 60_000 / MS_A_PING, intervalMs: MS_A_PING })

  // The client is killed instead: its Serf keeps running with the old key.
  await Promise.all([...servers.map(host => host.stopAgent()), client.killAgent()])
  const oldKey = join(lab.dir, 'old.key')
  copyFileSync(lab.keyFile, oldKey)
  writeFileSync(lab.keyFile, `${generateClusterKey()}\n`)
  await Promise.all(hosts.map(host => host.startAgent()))
  await Promise.all(hosts.map(host => host.waitReady()))
  // A ready agent knows the leader; Serf may still be finding the other members.
  for (const host of hosts) {
    await waitForState(`${host.name} sees all`, () => host.status(), { cluster, members: { alive: 4, failed: 0 } })
  }

  // However quick that was, there has been traffic, and it goes on.
  t.equal(await countReplies(one, bare(address), { count: 100 }), 100)
  pings.stop()
  const { sent, received, gaps } = await pings.result
  t.comment(`${received} of ${sent} replies`)
  t.ok(sent > 100)
  t.same(gaps, [], 'no ping was lost')
  await client.attach(three, 'blue')
  t.match(await h1.cliJson('endpoint', 'list'), [
    { containerId: one.name, host: 'h1', address: '10.1.0.2/24' },
    { containerId: two.name, host: 'h4', address },
    { containerId: three.name, host: 'h4', address: '10.1.0.4/24' }
  ])

  const stranger = await lab.addHost({ role: 'client', join: [h1.address], clusterKeyFile: oldKey })
  await stranger.startAgent()
  const itsSerf = join(stranger.dir, 'data/serf/serf.log')
  await waitFor('its join fails', () => readFileSync(itsSerf, 'utf8').includes('Failed to join'), { timeoutMs: 20_000 })
  await waitForState('it sees only itself', () => stranger.status(), { ready: false, members: { alive: 1 } })
  t.notOk((await h1.members()).some(({ name }) => name === stranger.name))
})
