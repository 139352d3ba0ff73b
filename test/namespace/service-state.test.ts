// The state of services with real agents: made by the command line, seen on every host, refused on a
// client host, and kept over kills.

import t from 'tap'
import type { ServiceView } from '#model/views.ts'
import type { LabHost } from '../lab/host.ts'
import { Lab } from '../lab/lab.ts'
import { expectOracle } from '../lab/oracle.ts'
import { cannotRun } from '../lab/requirements.ts'
import { TEST_TIMEOUT_MS, waitFor } from '../lab/wait.ts'

t.setTimeout(TEST_TIMEOUT_MS)

/** How many endpoints a service has, as a host knows it; null where it knows none of that name. */
async function endpointsAt(host: LabHost, name: string): Promise<number | null> {
  const all = await host.cliJson<ServiceView[]>('service', 'list', '--network', 'red')
  return all.find(service => service.name === name)?.endpoints ?? null
}

t.test(
  'services are made on servers, follow labels everywhere, and are there after kills',
  { skip: cannotRun() },
  async t => {
    const lab = await Lab.create()
    t.teardown(() => lab.destroy())
    const [h1, h2] = await lab.addServerAndClient({ raft: { snapshotBytes: 4_096 } })
    await h1.api.call('POST', '/v1/networks', { name: 'red', subnets: ['10.1.0.0/24', 'fd00:1::/64'] })
    await waitFor('h2 knows the network', async () => (await h2.api.list('/v1/networks')).length === 1)
    const [web, db] = [await lab.container('web'), await lab.container('db')]
    await h1.attach(web, 'red')
    await h2.attach(db, 'red')

    const create = ['service', 'create', 'web', '--network', 'red', '--port', '80:8080', '--select', 'app=web']
    t.match(await h2.cli(...create), { exitCode: 1, stderr: /a client host changes no services.*\[ERR_NOT_ALLOWED\]/ })
    const made = await h1.cliJson<ServiceView>(...create)
    t.match(made, { addresses: ['10.1.0.4', 'fd00:1::4'], endpoints: 0 })
    const outside = ['--ip', '10.96.0.10', '--port', '53/udp', '--backend', '10.1.0.3']
    await h1.cliJson('service', 'create', 'dns', '--network', 'red', ...outside)
    t.match(
      await h1.cli('service', 'create', 'x', '--network', 'red', '--port', '1', '--select', 'a', '--ip', '192.0.2.2'),
      {
        ...{ exitCode: 5, stderr: /192\.0\.2\.2 belongs to host h2/ }
      }
    )

    await t.test('labels choose and unchoose their endpoints on every host', async t => {
      await h1.cliJson('endpoint', 'update', 'web', '--label', 'app=web')
      await h2.cliJson('endpoint', 'update', 'db', '--label', 'app=web')
      for (const host of [h1, h2]) {
        await waitFor('both are chosen', async () => (await endpointsAt(host, 'web')) === 2)
        t.equal(await endpointsAt(host, 'dns'), 1)
      }
      await h2.cliJson('endpoint', 'update', 'db', '--unlabel', 'app')
      for (const host of [h1, h2]) await waitFor('one is left', async () => (await endpointsAt(host, 'web')) === 1)
    })

    await t.test('after both agents were killed, from what is on their disks', async t => {
      await h1.cliJson('service', 'update', 'dns', '--network', 'red', '--affinity', '60')
      await waitFor('h2 has the change', async () => {
        const { affinitySeconds } = await h2.cliJson<ServiceView>('service', 'show', 'dns', '--network', 'red')
        return affinitySeconds === 60
      })
      for (const host of [h2, h1]) await host.killAgent()
      for (const host of [h1, h2]) await host.startAgent()
      for (const host of [h1, h2]) await host.waitReady()
      for (const host of [h1, h2]) {
        t.match(await host.cliJson('service', 'show', 'web', '--network', 'red'), { ...made, endpoints: 1 })
        t.match(await host.cliJson('kv', 'get', 'service/red/dns'), { value: { addresses: ['10.96.0.10'] } })
      }
      const digests = async (): Promise<boolean> => (await h1.status()).digest === (await h2.status()).digest
      await waitFor('both hosts hold one state', digests)
    })

    t.match(await h1.cli('network', 'delete', 'red', '--force'), { exitCode: 0 })
    t.same(await h1.api.list('/v1/services'), [])
    await waitFor('h2 has none, either', async () => (await h2.api.list('/v1/services')).length === 0)
    await expectOracle(lab)
  }
)
