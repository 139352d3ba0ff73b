// The demo's checks under faults: the leader's agent is killed and restarted, a whole host fails and returns.

import type { EndpointView } from '#model/views.ts'
import type { LabHost } from '../lab/host.ts'
import { readFdb } from '../lab/kernel.ts'
import type { Lab } from '../lab/lab.ts'
import { Patience } from '../lab/patience.ts'
import { waitFor } from '../lab/wait.ts'
import { expect, ms, type Checks } from './checks.ts'
import { pingAll, type Tenants } from './mesh-checks.ts'

export async function checkLeaderKill(checks: Checks, lab: Lab, tenants: Tenants): Promise<void> {
  const leader = await findLeader(lab)
  const others = lab.hosts.filter(host => host !== leader)
  const other = others[0] ?? leader
  const extra = await lab.container('afterkill')
  await checks.check(
    `kill -9 of the leader’s agent (${leader.name}): pings between containers lose nothing`,
    async () => {
      const pinging = pingAll(tenants.red1, tenants.redAddresses, { count: 600, intervalMs: 10 })
      const [since, patience] = [performance.now(), new Patience(3_000)]
      await leader.killAgent()
      await checks.check('a new leader acknowledges an allocation within 3 s', async () => {
        const view = await other.attach(extra, 'red')
        const took = performance.now() - since
        expect(!patience.isOver(), `after ${ms(took)}`)
        return `${view.address} after ${ms(took)}, leader ${(await findLeader(lab, others)).name}`
      })
      await checks.check('the old leader restarts and catches up', async () => {
        const back = performance.now()
        await leader.startAgent()
        await leader.waitReady()
        const target = (await other.status()).raft.appliedIndex
        await waitFor(
          'it has applied what the others have applied',
          async () => (await leader.status()).raft.appliedIndex >= target
        )
        const mine = (await leader.api.call('GET', '/v1/endpoints')) as EndpointView[]
        expect(
          mine.some(e => e.containerId === extra.name),
          'it does not know the new allocation'
        )
        return `applied ${target} after ${ms(performance.now() - back)}`
      })
      const { sent, received } = await pinging
      expect(sent >= 500 && sent === received, `${received} of ${sent} replies`)
      return `${received} of ${sent} replies, 10 ms apart, through the kill and the return`
    }
  )
}

export async function checkHostKill(checks: Checks, lab: Lab, tenants: Tenants): Promise<void> {
  const [h1, h2] = [lab.host(1), lab.host(2)]
  const floods = async (host: LabHost): Promise<string[]> =>
    (await readFdb(host.namespace)).flatMap(e => (e.mac === '00:00:00:00:00:00' && e.dst !== undefined ? [e.dst] : []))
  await checks.check('a whole host fails: the others remove it from their flood lists', async () => {
    expect((await floods(h1)).includes(h2.address), 'it was not in the flood lists before')
    const since = performance.now()
    await h2.killHost()
    for (const host of lab.hosts.filter(host => host !== h2)) {
      await waitFor(`${host.name} stops flooding to it`, async () => !(await floods(host)).includes(h2.address), {
        timeoutMs: 30_000,
        everyMs: 100
      })
    }
    const unicast = (await readFdb(h1.namespace)).filter(e => e.dst === h2.address).length
    expect(unicast > 0, 'its unicast entries are gone: a cut of the control plane would cut containers off')
    return `after ${ms(performance.now() - since)}; ${unicast} unicast entries stay`
  })
  await checks.check('it returns and is reached again', async () => {
    const since = performance.now()
    await h2.linkUp()
    await h2.startAgent()
    await waitFor(
      'a reply',
      async () => (await pingAll(tenants.red1, tenants.redAddresses, { count: 1, waitMs: 300 })).received > 0
    )
    const reached = performance.now() - since
    await h2.waitReady()
    await waitFor('it is in the flood lists again', async () => (await floods(h1)).includes(h2.address))
    const { sent, received } = await pingAll(tenants.red1, tenants.redAddresses, { count: 20, intervalMs: 50 })
    expect(sent === received, `${received} of ${sent} replies`)
    return `first reply after ${ms(reached)}, in the flood lists after ${ms(performance.now() - since)}`
  })
}

/** The current leader. */
export async function findLeader(lab: Lab, among: readonly LabHost[] = lab.hosts): Promise<LabHost> {
  return waitFor('a host leads', async () => {
    for (const host of among) if ((await host.status()).raft.role === 'leader') return host
    return null
  })
}
