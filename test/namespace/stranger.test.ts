// All servers start again while one of them has another disk, which holds a restored backup: it belongs to no cluster, and
// keeps the others from nothing.

import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { Lab } from '../lab/lab.ts'
import { cannotRun } from '../lab/requirements.ts'
import { waitFor } from '../lab/wait.ts'

/** Without the stranger an election takes a second. */
const ELECTED_MS = 20_000

t.test('servers elect a leader beside one that waits with a restored backup', { skip: cannotRun() }, async t => {
  const lab = await Lab.create()
  t.teardown(() => lab.destroy())
  const servers = await lab.addServers(4)
  const stranger = lab.host(4)
  const others = servers.slice(0, 3)
  const file = join(lab.dir, 'backup.snap')
  await lab.host(1).api.call('POST', '/v1/networks', { name: 'red', subnet: '10.1.0.0/24' })
  await stranger.cliJson('snapshot', 'save', file)
  await stranger.stopAgent()
  await rename(join(stranger.dir, 'data'), join(stranger.dir, 'kept'))
  t.match(await stranger.cli('snapshot', 'restore', file, '--config', stranger.configFile), { exitCode: 0 })
  // The peer id is that of the server in the configuration.
  await lab.host(1).exec('cp', join(stranger.dir, 'kept/identity.key'), join(stranger.dir, 'data/identity.key'))
  await stranger.startAgent()
  await waitFor('it waits', async () => (await stranger.status()).trouble !== null)
  await Promise.all(others.map(host => host.killAgent()))
  await Promise.all(others.map(host => host.startAgent()))
  await Promise.all(others.map(host => host.waitReady(ELECTED_MS)))
  await lab.host(2).api.call('POST', '/v1/networks', { name: 'blue', subnet: '10.2.0.0/24' })
  t.ok(await waitFor('the third has the network', async () => (await lab.host(3).status()).networks === 2))
  t.equal((await stranger.status()).cluster, null, 'it belongs to no cluster')

  await stranger.stopAgent()
  await rename(join(stranger.dir, 'data'), join(stranger.dir, 'strange'))
  await rename(join(stranger.dir, 'kept'), join(stranger.dir, 'data'))
  await stranger.startAgent()
  await stranger.waitReady(ELECTED_MS)
  const hasBoth = async (): Promise<boolean> => (await stranger.status()).networks === 2
  t.ok(await waitFor('the stranger has both networks', hasBoth), 'with its own disk it takes part again')
})
