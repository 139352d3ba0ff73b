// A host that fails and returns under traffic: after each return every kernel matches the state again, and after a long cut
// traffic flows as soon as the link is up.

import t from 'tap'
import { CHAOS, CHAOS_TIMEOUT, sleep } from '../lab/chaos.ts'
import { bare } from '../lab/container.ts'
import { expectOracle } from '../lab/oracle.ts'
import { waitFor } from '../lab/wait.ts'
import { meshLab, nth } from './mesh-lab.ts'
import { cannotRun } from '../lab/requirements.ts'

t.setTimeout(CHAOS_TIMEOUT)

t.test('a flapping host recovers completely after each return', { skip: cannotRun() }, async t => {
  const { lab, containers, endpoints } = await meshLab(t, { servers: 3, attached: 3 })
  const host = lab.host(2)
  const address = bare(nth(endpoints, 2).address)
  const one = nth(containers, 1)
  const statusOf = async (): Promise<string | undefined> =>
    (await lab.host(1).members()).find(m => m.name === host.name)?.status
  await expectOracle(lab)
  // Every other time the host returns before the others notice that it failed.
  for (let n = 0; n < CHAOS.flaps; n++) {
    const noticed = n % 2 === 0
    const traffic = one.startPing(address, { count: 20_000, intervalMs: 10 })
    await host.killHost()
    if (noticed)
      await waitFor('the others have declared it failed', async () => (await statusOf()) === 'failed', {
        timeoutMs: 30_000
      })
    else await sleep(1_000)
    await host.linkUp()
    await host.startAgent()
    await host.waitReady(30_000)
    await waitFor('it is alive for the others', async () => (await statusOf()) === 'alive', { timeoutMs: 30_000 })
    const since = performance.now()
    await expectOracle(lab, { timeoutMs: 5_000 })
    t.comment(`flap ${n + 1}: recovered ${Math.round(performance.now() - since)} ms after its return`)
    traffic.stop()
    t.ok((await traffic.result).received > 0, `flap ${n + 1}: there was traffic`)
  }

  await host.linkDown()
  const cut = performance.now()
  await waitFor('the cut is detected', async () => (await statusOf()) === 'failed', { timeoutMs: 60_000 })
  await sleep(Math.max(0, CHAOS.cutMs - (performance.now() - cut)))
  await host.linkUp()
  const since = performance.now()
  await waitFor('traffic is back', async () => (await one.ping(address, { count: 1, waitMs: 100 })).received === 1, {
    timeoutMs: 1_000,
    everyMs: 10
  })
  t.comment(`first reply ${Math.round(performance.now() - since)} ms after the link is up`)
  const { sent, received } = await one.ping(address, { count: 50, intervalMs: 20 })
  t.equal(received, sent, 'and no reply is lost after the first')
  await expectOracle(lab, { timeoutMs: 60_000 })
})
