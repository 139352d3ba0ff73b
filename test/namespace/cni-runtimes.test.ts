// CNI runtimes other than Kubernetes': `ctr run --cni` and podman, each with a container in one of our networks.

import t from 'tap'
import type { EndpointView } from '#model/views.ts'
import { buildPlugin } from '../cni/plugin.ts'
import { bare } from '../lab/container.ts'
import { Containerd } from '../lab/containerd.ts'
import { Lab } from '../lab/lab.ts'
import { Podman } from '../lab/podman.ts'
import type { RunningContainer } from '../lab/running-container.ts'
import { TEST_TIMEOUT_MS, waitFor } from '../lab/wait.ts'
import { cannotRun } from '../lab/requirements.ts'

t.test(
  'containers of ctr and of podman are in our network for as long as they run',
  { skip: cannotRun(), timeout: TEST_TIMEOUT_MS },
  async t => {
    await buildPlugin()
    const lab = await Lab.create()
    t.teardown(() => lab.destroy())
    const [h1, h2] = await lab.addServerAndClient()
    await h1.cliJson('network', 'create', 'blue', '--subnet', '10.5.0.0/24')
    const containerd = await Containerd.start(h1, { network: 'blue' })
    t.teardown(() => containerd.stop())
    const podman = await Podman.setUp(h1, { network: 'blue' })
    t.teardown(() => podman.stop())

    const far = await lab.container('far')
    const { address: there } = await h2.attach(far, 'blue')
    const ofRuntime = async (): Promise<EndpointView[]> => {
      const all = (await h1.api.call('GET', '/v1/endpoints')) as EndpointView[]
      return all.filter(({ containerId }) => containerId !== far.name)
    }
    // Bridge and VXLAN device exist for as long as the host has a container in the network.
    const devices = async (): Promise<string[]> =>
      (await h1.exec('ip', '-br', 'link')).stdout.split('\n').filter(line => /^v[bxe]/.test(line))

    const start: Readonly<Record<string, () => Promise<RunningContainer>>> = {
      'ctr run --cni': () => containerd.runByCtr('c1'),
      'podman with the CNI backend': () => podman.run('p1')
    }
    for (const [runtime, run] of Object.entries(start)) {
      await t.test(runtime, async t => {
        const container = await run()
        const [endpoint] = await ofRuntime()
        if (endpoint === undefined) throw new Error('its process was started without ADD')
        t.match(endpoint, { network: 'blue', host: 'h1' })
        const inside = await container.exec('/bin/busybox', 'ip', 'address', 'show', 'eth0')
        t.match(inside, `inet ${bare(endpoint.address)}/24`)
        t.match(inside, endpoint.mac)
        t.match(await far.ping(endpoint.address, { count: 3 }), { received: 3 }, 'from another host')
        t.match(await container.exec('/bin/ping', '-c', '3', '-W', '2', bare(there)), /3 packets received/)
        await container.remove()
        t.same(await ofRuntime(), [], 'the runtime calls DEL before it returns')
        t.ok(await waitFor('no device is left', async () => (await devices()).length === 0))
        const { received } = await far.ping(endpoint.address, { count: 1, waitMs: 1_000 })
        t.equal(received, 0, 'its address does not answer any more')
      })
    }
  }
)
