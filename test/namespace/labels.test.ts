// Labels with real agents: given by the command line and by CNI, changed live by every door, and kept over kills.

import t from 'tap'
import type { EndpointView } from '#model/views.ts'
import { buildPlugin } from '../cni/plugin.ts'
import { addPod, delPod } from '../lab/cni-runtime.ts'
import { bare } from '../lab/container.ts'
import type { LabHost } from '../lab/host.ts'
import { Lab } from '../lab/lab.ts'
import { expectOracle } from '../lab/oracle.ts'
import { cannotRun } from '../lab/requirements.ts'
import { TEST_TIMEOUT_MS, waitFor } from '../lab/wait.ts'

t.setTimeout(TEST_TIMEOUT_MS)

/** The containers that a host lists by a selector. */
async function chosen(host: LabHost, ...terms: string[]): Promise<string[]> {
  const flags = terms.flatMap(term => ['--label', term])
  return (await host.cliJson<EndpointView[]>('endpoint', 'list', ...flags)).map(({ containerId }) => containerId).sort()
}

async function labelsAt(host: LabHost, containerId: string): Promise<unknown> {
  return (await host.cliJson<EndpointView>('endpoint', 'show', containerId)).labels
}

t.test(
  'labels are attached, changed live, and still there when the agents were killed',
  { skip: cannotRun() },
  async t => {
    await buildPlugin()
    const lab = await Lab.create()
    t.teardown(() => lab.destroy())
    const [h1, h2] = await lab.addServerAndClient({ raft: { snapshotBytes: 4_096 } })
    await h1.api.call('POST', '/v1/networks', { name: 'red', subnet: '10.1.0.0/24' })
    await waitFor('h2 knows the network', async () => (await h2.api.list('/v1/networks')).length === 1)
    const [web, pod] = [await lab.container('web'), await lab.container('pod')]

    await t.test('by the command line and by CNI', async t => {
      const attach = ['endpoint', 'attach', '--network', 'red', '--container-id', 'web', '--netns', web.netns]
      const { labels } = await h1.cliJson<EndpointView>(
        ...attach,
        '--label',
        'app=web',
        '--label',
        'example.com/tier=front'
      )
      t.strictSame(labels, { app: 'web', 'example.com/tier': 'front' })
      const runtimeConfig = { 'io.kubernetes.cri.pod-annotations': { 'vxmesh.io/labels': 'app=shop' } }
      await addPod(h2, { container: pod, network: 'red', args: 'VXMESH_LABELS=app=db,canary=', runtimeConfig })
      t.strictSame(await labelsAt(h2, 'pod'), { app: 'shop', canary: '' })
      for (const host of [h1, h2])
        await waitFor('both hosts know both', async () => (await chosen(host, 'app')).length === 2)
      t.same(await chosen(h1, 'app=shop', 'canary='), ['pod'])
      t.same(await chosen(h2, 'example.com/tier'), ['web'])
    })

    const { address } = await h1.cliJson<EndpointView>('endpoint', 'show', 'web')
    await waitFor(
      'they reach each other',
      async () => (await pod.ping(bare(address), { count: 1, waitMs: 500 })).received === 1
    )
    const ping = pod.startPing(bare(address), { count: 100_000, intervalMs: 10 })

    await t.test('live, on the own host and from the server, and no packet notices', async t => {
      await h1.cliJson('endpoint', 'update', 'web', '--label', 'app=shop', '--unlabel', 'example.com/tier')
      await h2.api.call('PATCH', '/v1/endpoints/pod', { labels: { canary: null, zone: 'b' } })
      await h1.cliJson('endpoint', 'update', 'pod', '--label', 'zone=a')
      t.match(await h2.cli('endpoint', 'update', 'web', '--label', 'app=stolen'), {
        exitCode: 1,
        stderr: /ERR_NOT_ALLOWED/
      })
      t.match(await h1.cli('endpoint', 'update', 'web', ...tooMany()), { exitCode: 2, stderr: /33 labels/ })
      t.strictSame(await labelsAt(h1, 'web'), { app: 'shop' })
      for (const host of [h1, h2])
        await waitFor('both hosts have the changes', async () => (await chosen(host, 'app=shop')).length === 2)
      await waitFor('also that of the server', async () => (await chosen(h2, 'zone=a')).length === 1)
    })

    await t.test('after both agents were killed, from what is on their disks', async t => {
      for (const host of [h2, h1]) await host.killAgent()
      for (const host of [h1, h2]) await host.startAgent()
      for (const host of [h1, h2]) await host.waitReady()
      for (const host of [h1, h2]) {
        t.strictSame(await labelsAt(host, 'web'), { app: 'shop' })
        t.strictSame(await labelsAt(host, 'pod'), { app: 'shop', zone: 'a' })
        t.same(await chosen(host, 'app=shop'), ['pod', 'web'])
      }
      t.match(await h1.cliJson('kv', 'get', 'endpoint/red/web/eth0'), { value: { labels: { app: 'shop' } } })
      const digests = async (): Promise<boolean> => (await h1.status()).digest === (await h2.status()).digest
      await waitFor('both hosts hold one state', digests)
    })

    ping.stop()
    const { sent, gaps } = await ping.result
    t.same(gaps, [], `${sent} pings`)
    await expectOracle(lab)
    await delPod(h2, { container: pod, network: 'red' })
    await h1.cliJson('endpoint', 'detach', '--container-id', 'web')
  }
)

/** Together with the one that it has. */
function tooMany(): string[] {
  return Array.from({ length: 32 }, (_, n) => ['--label', `k${n}=`]).flat()
}
