// The demo's checks of a service: red1 on h1 finds it by name, and reaches the backends on h2 and h3 that have a label.

import type { ServiceView } from '#model/views.ts'
import type { LabContainer } from '../lab/container.ts'
import type { Lab } from '../lab/lab.ts'
import { ServiceEnd } from '../lab/service-end.ts'
import { waitFor } from '../lab/wait.ts'
import { expect, type Checks } from './checks.ts'
import { resolve } from './mesh-checks.ts'

const CONNECTIONS = 40
const TARGET = 8_080
const SERVICE = ['web', '--network', 'red']

/** Leaves nothing in network red. */
export async function checkService(checks: Checks, lab: Lab, red1: LabContainer): Promise<void> {
  const [h1, h2, h3] = [lab.host(1), lab.host(2), lab.host(3)]
  const [web1, web2] = [await lab.container('redweb1'), await lab.container('redweb2')]
  const client = await ServiceEnd.client(red1)
  const servers = [await ServiceEnd.serve(web1, 'redweb1', TARGET), await ServiceEnd.serve(web2, 'redweb2', TARGET)]
  /** How many connections each backend answers, or an error in its place. */
  const answering = async (address: string): Promise<ReadonlyMap<string, number>> => {
    const counts = new Map<string, number>()
    for (let n = 0; n < CONNECTIONS; n++) {
      const [who = ''] = (await client.ask('tcp', { address, port: 80 })).split(' ')
      counts.set(who, (counts.get(who) ?? 0) + 1)
    }
    return counts
  }
  let addresses: readonly string[] = []
  await checks.check('red1 reaches a service by its name: connections to backends on h2 and h3', async () => {
    const { dns } = await h2.attach(web1, 'red', { labels: { app: 'web' } })
    await h3.attach(web2, 'red', { labels: { app: 'web' } })
    const port = ['--port', `80:${TARGET}`, '--select', 'app=web']
    const made = await h1.cliJson<ServiceView>('service', 'create', ...SERVICE, ...port)
    addresses = await resolve(red1, dns?.nameservers[0] ?? 'nobody', 'web.red.vxmesh')
    expect(addresses.toSorted().join() === made.addresses.toSorted().join(), `it finds ${addresses.join(' and ')}`)
    const shares: string[] = []
    for (const address of addresses) {
      const counts = await waitFor('two backends answer', async () => {
        const found = await answering(address)
        return found.size === 2 && found.has('redweb1') && found.has('redweb2') ? found : null
      })
      shares.push(`${address} to h2 ${counts.get('redweb1')} and to h3 ${counts.get('redweb2')} of ${CONNECTIONS}`)
    }
    return `web.red.vxmesh: ${shares.join(', ')}`
  })
  await checks.check('without its label, a backend gets no more connections', async () => {
    await h3.cliJson('endpoint', 'update', web2.name, '--unlabel', 'app')
    for (const address of addresses)
      await waitFor('one backend answers', async () => (await answering(address)).get('redweb1') === CONNECTIONS)
    return `h2 ${CONNECTIONS} of ${CONNECTIONS}`
  })
  await h1.cliJson('service', 'delete', ...SERVICE)
  await Promise.all([h2.detach(web1), h3.detach(web2)])
  for (const end of [client, ...servers]) await end.stop()
}
