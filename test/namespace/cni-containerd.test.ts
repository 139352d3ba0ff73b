// containerd with our plugin on two hosts, driven as a kubelet drives it.

import t from 'tap'
import type { EndpointView } from '#model/views.ts'
import { buildPlugin } from '../cni/plugin.ts'
import { CHAOS_IN_FULL } from '../lab/chaos.ts'
import { Containerd, IMAGE } from '../lab/containerd.ts'
import type { PodFacts } from '../lab/cri.ts'
import { Lab } from '../lab/lab.ts'
import { TEST_TIMEOUT_MS, waitFor } from '../lab/wait.ts'
import { cannotRun } from '../lab/requirements.ts'

const [BATCHES, AT_ONCE] = CHAOS_IN_FULL ? [5, 20] : [3, 8]

type Pod = { readonly id: string; readonly facts: PodFacts; readonly address: string }

t.test(
  'pods of containerd are in the networks of their namespaces',
  { skip: cannotRun(), timeout: TEST_TIMEOUT_MS },
  async t => {
    await buildPlugin()
    const lab = await Lab.create()
    t.teardown(() => lab.destroy())
    const [h1, h2] = await lab.addServerAndClient()
    for (const [name, namespace] of [
      ['blue', 'shop'],
      ['green', 'bank']
    ] as const) {
      await h1.cliJson('network', 'create', name, '--subnet', '10.5.0.0/24')
      await h1.cliJson('namespace', 'map', namespace, name)
    }
    const runtimes = [await Containerd.start(h1), await Containerd.start(h2)] as const
    t.teardown(() => Promise.all(runtimes.map(runtime => runtime.stop())))
    const endpoints = async (): Promise<EndpointView[]> => (await h1.api.call('GET', '/v1/endpoints')) as EndpointView[]
    let made = 0
    const start = async (runtime: Containerd, namespace: string, annotations = {}): Promise<Pod> => {
      const facts = { name: `pod${made++}`, namespace, annotations }
      const id = await runtime.cri.runPod(facts)
      return { id, facts, address: await runtime.cri.podAddress(id) }
    }
    const remove = async (runtime: Containerd, { id }: Pod): Promise<void> => {
      await runtime.cri.stopPod(id)
      await runtime.cri.removePod(id)
    }
    const [one, two] = runtimes

    await t.test('one namespace spans hosts, two are isolated although they use the same addresses', async t => {
      const [a, b] = [await start(one, 'shop'), await start(two, 'shop')]
      const [c, d] = [await start(one, 'bank'), await start(two, 'bank')]
      t.same([a.address, b.address], [c.address, d.address], 'the same addresses in both')
      const rows = await endpoints()
      t.same(rows.map(({ network, name }) => `${network} ${name}`).sort(), [
        'blue shop/pod0',
        'blue shop/pod1',
        'green bank/pod2',
        'green bank/pod3'
      ])
      const inA = await one.cri.startContainer(a.id, a.facts, {
        image: IMAGE,
        command: ['/bin/busybox', 'sleep', '600']
      })
      const ping = (address: string): Promise<{ exitCode: number; stdout: string }> =>
        one.cri.exec(inA, '/bin/ping', '-c', '3', '-W', '2', address)
      t.match(await ping(b.address), { exitCode: 0, stdout: /3 packets received/ })
      await remove(two, b)
      t.match(
        await ping(b.address),
        { stdout: /0 packets received/ },
        'the same address in the other network does not answer'
      )
      t.match(await one.cri.exec(inA, '/bin/busybox', 'ip', 'addr', 'show', 'eth0'), {
        stdout: new RegExp(`inet ${a.address}/24`)
      })
      await Promise.all([remove(one, a), remove(one, c), remove(two, d)])
      t.same(await endpoints(), [])
    })

    await t.test('annotations set the bandwidth', async t => {
      const annotations = { 'kubernetes.io/ingress-bandwidth': '10M', 'kubernetes.io/egress-bandwidth': '20M' }
      const pod = await start(one, 'shop', annotations)
      const [endpoint] = await endpoints()
      t.match(endpoint, { ingressRate: 10_000_000, egressRate: 20_000_000 })
      await remove(one, pod)
    })

    await t.test('a pod of an unmapped namespace is refused, and the runtime reports why', async t => {
      await t.rejects(start(one, 'nobody'), /namespace nobody is mapped to no network/)
      t.same(await endpoints(), [])
    })

    await t.test('many pods at once start and stop without a trace', async t => {
      const addresses = new Set<string>()
      for (let batch = 0; batch < BATCHES; batch++) {
        const pods = await Promise.all(Array.from({ length: AT_ONCE }, () => start(one, 'shop')))
        for (const { address } of pods) addresses.add(address)
        await Promise.all(pods.map(pod => remove(one, pod)))
      }
      t.equal(addresses.size, BATCHES * AT_ONCE, 'a released address is the last to be reused')
      t.same(await endpoints(), [])
      t.ok(
        await waitFor('no device is left', async () => !/^v[bxe]/m.test((await h1.exec('ip', '-br', 'link')).stdout))
      )
    })
  }
)
