// Containers that end while they are attached: the namespace's name is deleted, or its only process is killed, at a random
// moment of the attach. Nothing may stay, and no network is degraded.

import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import type { LabHost } from '../lab/host.ts'
import { expectOracle } from '../lab/oracle.ts'
import { startProcessContainer } from '../lab/process-container.ts'
import { waitFor } from '../lab/wait.ts'
import { meshLab, nth } from './mesh-lab.ts'
import { cannotRun } from '../lab/requirements.ts'

const KILLS = 60
/** Less than `collectAfter`, which is 60 s in the lab, too. */
const AT_ONCE_MS = 3_000

/** @returns 'attached' or the code of the refusal */
async function attach(host: LabHost, containerId: string, netns: string): Promise<string> {
  try {
    await host.api.call('POST', '/v1/endpoints', { network: 'red', containerId, netns })
    return 'attached'
  } catch (err) {
    return (err as { code?: string }).code ?? String(err)
  }
}

t.test(`${KILLS} containers that are killed while they are attached leave nothing`, { skip: cannotRun() }, async t => {
  const { lab, containers } = await meshLab(t, { servers: 1, attached: 1 })
  const host = lab.host(1)
  const outcomes = new Map<string, number>()
  const degraded = new Set<string>()
  let drift = 0
  let tookMs = 20
  for (let n = 0; n < KILLS; n++) {
    const named = n % 2 === 0 ? await lab.container(`k${n}`) : null
    const one = named === null ? await startProcessContainer() : { netns: named.netns, end: () => named.remove() }
    if (named === null) t.teardown(one.end)
    const startMs = performance.now()
    const answer = attach(host, `k${n}`, one.netns)
    await sleep(Math.random() * tookMs)
    await one.end()
    const outcome = await answer
    if (outcome === 'attached') tookMs = (tookMs * 3 + performance.now() - startMs) / 4
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1)
    const { overlay } = await host.status()
    for (const line of overlay.degraded) degraded.add(line)
    drift = Math.max(drift, overlay.drift)
  }
  t.comment(JSON.stringify([...outcomes]))
  const listed = async (): Promise<number> => ((await host.api.call('GET', '/v1/endpoints')) as unknown[]).length
  t.comment(`${await listed()} listed`)
  await waitFor('only the container that lives is listed', async () => (await listed()) === 1, {
    timeoutMs: AT_ONCE_MS
  })
  t.strictSame([...degraded], [], 'no network was degraded')
  t.equal(drift, 0, 'there was no drift')
  await expectOracle(lab)
  t.equal((await nth(containers, 1).ping('10.1.0.1', { count: 3 })).received, 3)
})
