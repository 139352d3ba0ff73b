// A path that is switched from a container to the host, a router or another host while an attach follows it: whatever the
// race's outcome, nothing but the container gets an interface.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { symlinkSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { attachRequest, detachRequest } from '#overlay/driver.ts'
import { ipJson } from '../lab/kernel.ts'
import { cannotRun } from '../lab/requirements.ts'
import { TEST_TIMEOUT_MS } from '../lab/wait.ts'
import { makeEndpoint } from '../overlay/fixtures.ts'
import { GatewayLab, MTU, red } from './gateway-lab.ts'

const ATTACHES = 1_000

/** Switches a link between two targets for as long as it runs. */
const SWITCH = `
import os, sys
link, one, two = sys.argv[1:]
print('up', flush=True)
while True:
    for target in (one, two):
        os.symlink(target, link + '.new'); os.rename(link + '.new', link)
`

t.test(
  'a switched link never leads into a host or a router',
  { skip: cannotRun(), timeout: TEST_TIMEOUT_MS },
  async t => {
    const g = await GatewayLab.open(2)
    t.teardown(() => g.close())
    await g.attach(red, { container: 'r1', host: 1, address: '10.1.0.2' })
    await g.attach(red, { container: 'r2', host: 2, address: '10.1.0.3' })
    const container = await g.lab.container('victim')
    const router = await g.router(red)
    const [h1, h2] = [g.lab.host(1), g.lab.host(2)]
    const targets: readonly (readonly [what: string, namespace: string, netns: string])[] = [
      ['its host', h1.namespace, h1.netns],
      ['another host', h2.namespace, h2.netns],
      ['a router', router, `/run/netns/${router}`]
    ]
    const endpoint = makeEndpoint(red, { container: 'victim', host: 1, address: '10.1.0.9' })
    const { devices } = g.driver(1)
    for (const [what, namespace, netns] of targets) {
      const link = join(g.lab.dir, `link-${namespace}`)
      symlinkSync(container.netns, link)
      const links = async (): Promise<readonly unknown[]> =>
        (await ipJson(namespace, 'link', 'show'))
          .map(row => row['ifname'])
          .filter(name => !String(name).startsWith('ve'))
      const before = await links()
      const child = spawn('/usr/bin/python3', ['-c', SWITCH, link, container.netns, netns], {
        stdio: ['ignore', 'pipe', 'inherit']
      })
      let [attached, refused] = [0, 0]
      try {
        await once(child.stdout, 'data')
        for (let n = 0; n < ATTACHES / targets.length; n++) {
          const request = attachRequest({
            endpoint: { ...endpoint, ifname: 'x1' as typeof endpoint.ifname },
            network: red,
            overlayMtu: MTU,
            netns: link,
            withRoute: false
          })
          try {
            await devices.attach(request)
            attached++
            await devices.detach(detachRequest({ ...endpoint, ifname: request.ifname }))
          } catch (err) {
            if ((err as { code?: unknown }).code !== 'ERR_NETNS') throw err
            refused++
          }
        }
      } finally {
        child.kill('SIGKILL')
        await once(child, 'close')
      }
      t.ok(attached > 0 && refused > 0, `${what}: both sides of the race were seen (${attached} to ${refused})`)
      t.strictSame(await links(), before, `${what} is as it was`)
    }
  }
)
