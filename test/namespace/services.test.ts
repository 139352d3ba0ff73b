// Services with real agents, whole: made by the command line, their backends chosen by labels on every host, reached by what the containers
// send in both families, refused on a client host, and kept over kills.

import t from 'tap'
import type { ServiceView } from '#model/views.ts'
import type { LabHost } from '../lab/host.ts'
import { Lab } from '../lab/lab.ts'
import { expectOracle } from '../lab/oracle.ts'
import { cannotRun } from '../lab/requirements.ts'
import { ServiceEnd } from '../lab/service-end.ts'
import { TEST_TIMEOUT_MS, waitFor } from '../lab/wait.ts'

t.setTimeout(TEST_TIMEOUT_MS)
const TARGET = 8_080
const WEB = ['10.1.0.5', 'fd00:1::5'] as const

/** How many endpoints a service has, as a host knows it; null where it knows none of that name. */
async function endpointsAt(host: LabHost, name: string): Promise<number | null> {
  const all = await host.cliJson<ServiceView[]>('service', 'list', '--network', 'red')
  return all.find(service => service.name === name)?.endpoints ?? null
}

/** Which backends answer 20 connections to an address; codes of errors among them. */
async function answering(client: ServiceEnd, address: string, port = 80): Promise<string[]> {
  const answers: string[] = []
  for (let n = 0; n < 20; n++) answers.push(await client.ask('tcp', { address, port }))
  return [...new Set(answers.map(answer => answer.split(' ')[0] ?? ''))].sort()
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
    const [near, far, user] = await lab.containers(['near', 'far', 'user'])
    if (near === undefined || far === undefined || user === undefined) throw new Error('no containers')
    await h1.attach(near, 'red')
    await h2.attach(far, 'red')
    await h1.attach(user, 'red')
    for (const one of [near, far]) {
      const server = await ServiceEnd.serve(one, one.name, TARGET)
      t.teardown(() => server.stop())
    }
    const client = await ServiceEnd.client(user)
    t.teardown(() => client.stop())

    const create = ['service', 'create', 'web', '--network', 'red', '--port', `80:${TARGET}`, '--select', 'app=web']
    t.match(await h2.cli(...create), {
      ...{ exitCode: 1, stderr: /a client host changes no services.*\[ERR_NOT_ALLOWED\]/ }
    })
    const made = await h1.cliJson<ServiceView>(...create)
    t.match(made, { addresses: WEB, endpoints: 0 })
    const outside = ['--ip', '10.96.0.10', '--port', `81:${TARGET}`, '--backend', '10.1.0.3']
    await h1.cliJson('service', 'create', 'named', '--network', 'red', ...outside)
    const taken = ['service', 'create', 'x', '--network', 'red', '--port', '1', '--select', 'a', '--ip', '192.0.2.2']
    t.match(await h1.cli(...taken), { exitCode: 5, stderr: /192\.0\.2\.2 belongs to host h2/ })

    await t.test('labels choose and unchoose their endpoints on every host', async t => {
      await h1.cliJson('endpoint', 'update', near.name, '--label', 'app=web')
      await h2.cliJson('endpoint', 'update', far.name, '--label', 'app=web')
      for (const host of [h1, h2]) {
        await waitFor('both are chosen', async () => (await endpointsAt(host, 'web')) === 2)
        t.equal(await endpointsAt(host, 'named'), 1)
      }
      for (const address of WEB)
        await waitFor(`both answer at ${address}`, async () => (await answering(client, address)).join() === 'far,near')
      t.same(await answering(client, '10.96.0.10', 81), ['far'], 'outside of the network')
      await h2.cliJson('endpoint', 'update', far.name, '--unlabel', 'app')
      for (const host of [h1, h2]) await waitFor('one is left', async () => (await endpointsAt(host, 'web')) === 1)
      for (const address of WEB)
        await waitFor(`one answers at ${address}`, async () => (await answering(client, address)).join() === 'near')
    })

    const held = Number(await client.open({ address: WEB[0], port: 80 }))
    await t.test('after both agents were killed, from what is on their disks', async t => {
      await h1.cliJson('service', 'update', 'named', '--network', 'red', '--affinity', '60')
      await waitFor('h2 has the change', async () => {
        const { affinitySeconds } = await h2.cliJson<ServiceView>('service', 'show', 'named', '--network', 'red')
        return affinitySeconds === 60
      })
      for (const host of [h2, h1]) await host.killAgent()
      t.same(await answering(client, WEB[1]), ['near'], 'without any agent')
      for (const host of [h1, h2]) await host.startAgent()
      for (const host of [h1, h2]) await host.waitReady()
      for (const host of [h1, h2]) {
        t.match(await host.cliJson('service', 'show', 'web', '--network', 'red'), { ...made, endpoints: 1 })
        t.match(await host.cliJson('kv', 'get', 'service/red/named'), { value: { addresses: ['10.96.0.10'] } })
      }
      const digests = async (): Promise<boolean> => (await h1.status()).digest === (await h2.status()).digest
      await waitFor('both hosts hold one state', digests)
      t.same(await answering(client, WEB[0]), ['near'])
      t.match(await client.say(held), /^near /, 'the connection from before')
    })

    await t.test('a deleted service answers no longer, and its address is a container’s again', async t => {
      await h1.cliJson('service', 'delete', 'web', '--network', 'red')
      t.same(await h2.cli('service', 'show', 'web', '--network', 'red').then(({ exitCode }) => exitCode), 4)
      await waitFor('nobody answers', async () => !(await answering(client, WEB[0])).includes('near'))
      const late = await lab.container('late')
      const server = await ServiceEnd.serve(late, late.name, 80)
      t.teardown(() => server.stop())
      await h2.cliJson(
        ...[
          'endpoint',
          'attach',
          '--network',
          'red',
          '--container-id',
          late.name,
          '--netns',
          late.netns,
          '--ip',
          WEB[0]
        ]
      )
      // The client keeps the MAC of the service's address as long as any other neighbour's (docs/services.md).
      await waitFor('the container answers', async () => (await answering(client, WEB[0])).join() === 'late', {
        timeoutMs: 120_000
      })
    })
    await expectOracle(lab)
  }
)
