// A host is withdrawn from the overlay when it says itself that it leaves. What Serf says of it, anybody with Serf's key can make
// it say, and best while the host's own Serf is down and cannot contradict.

import t from 'tap'
import { LEAVE_GRACE_MS } from '#overlay/plan/network/leave-grace.ts'
import { sleep } from '../lab/chaos.ts'
import { bare } from '../lab/container.ts'
import { countReplies } from '../lab/ping.ts'
import { cannotRun } from '../lab/requirements.ts'
import { TEST_TIMEOUT_MS, waitFor } from '../lab/wait.ts'
import { meshLab, nth } from './mesh-lab.ts'
import { run } from '../lab/run.ts'

t.setTimeout(TEST_TIMEOUT_MS)

t.test('only a host’s own leave withdraws it from the overlay', { skip: cannotRun() }, async t => {
  const { lab, containers, endpoints } = await meshLab(t, { servers: 3, attached: 3 })
  const [witness, host, forger] = [lab.host(1), lab.host(2), lab.host(3)]
  const [from, to] = [nth(containers, 1), bare(nth(endpoints, 2).address)]
  const becomes = (status: string): Promise<unknown> =>
    waitFor(
      `Serf lists the host as ${status}`,
      async () => (await witness.members()).some(one => one.name === host.name && one.status === status),
      { timeoutMs: 30_000 }
    )

  await host.stopAgent()
  await becomes('failed')
  const forged = ['netns', 'exec', forger.namespace, 'serf', 'force-leave', host.name]
  t.equal((await run('ip', forged, { timeoutMs: 30_000 })).exitCode, 0)
  await becomes('left')
  const ping = from.startPing(to, { count: 4_000, intervalMs: 10 })
  await sleep(LEAVE_GRACE_MS + 3_000)
  t.equal(await countReplies(from, to), 3, 'it is reached after the grace')
  ping.stop()
  const { sent, gaps } = await ping.result
  t.same(gaps, [], `of ${sent} packets none is lost while the host counts as left by another’s word`)
  t.match(await witness.api.call('GET', `/v1/hosts/${host.name}`), { status: 'failed' })

  await host.startAgent()
  await host.waitReady(30_000)
  await becomes('alive')
  await host.cliJson('leave')
  await waitFor('its agent ends', () => host.agentIsGone)
  await becomes('left')
  t.equal(await countReplies(from, to), 3, 'it has a grace')
  await waitFor('then it is withdrawn', async () => (await countReplies(from, to, { count: 1, waitMs: 200 })) === 0, {
    timeoutMs: LEAVE_GRACE_MS + 20_000
  })
  t.match(await witness.api.call('GET', `/v1/hosts/${host.name}`), { status: 'left' })

  await host.startAgent()
  await host.waitReady(30_000)
  await waitFor('it is back', async () => (await countReplies(from, to, { count: 1, waitMs: 500 })) === 1, {
    timeoutMs: 30_000
  })
})
