// A client whose disk hangs: what it proposes is committed, and its own state does not show it. An attach then fails, and its
// address must not stay allocated, whether the disk comes back or the agent is killed meanwhile.

import { readdirSync, readFileSync } from 'node:fs'
import { mkdir, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { EndpointView } from '#model/views.ts'
import { isTemporary } from '#platform/durable-file.ts'
import type { LabHost } from '../lab/host.ts'
import { must } from '../lab/kernel.ts'
import { Lab } from '../lab/lab.ts'
import { cannotRun } from '../lab/requirements.ts'
import { waitFor } from '../lab/wait.ts'
import { run } from '../lab/run.ts'

const IMAGE_BYTES = 64 * 1024 * 1024
/** Less than `collectAfter` would take, which is 0 here: never. */
const RELEASED_MS = 10_000

/** A file system of its own for the host's log, which can be frozen. */
async function freezable(
  t: Test,
  lab: Lab,
  host: LabHost
): Promise<{ freeze(): Promise<string>; thaw(): Promise<string> }> {
  const image = join(lab.dir, 'log.img')
  const log = join(host.dir, 'data/log')
  await writeFile(image, '')
  await truncate(image, IMAGE_BYTES)
  await must('mkfs.ext4', ['-q', image])
  await mkdir(log, { recursive: true, mode: 0o700 })
  await must('mount', ['-o', 'loop', image, log])
  t.teardown(async () => {
    await run('fsfreeze', ['-u', log], { timeoutMs: 5_000 })
    await run('umount', ['--lazy', log], { timeoutMs: 5_000 })
  })
  await run('rm', ['-rf', join(log, 'lost+found')], { timeoutMs: 5_000 })
  return {
    freeze: () => must('fsfreeze', ['-f', log]),
    thaw: () => must('fsfreeze', ['-u', log])
  }
}

/** Those that a start finds: one that is being written does not count yet. */
function recordsOf(host: LabHost): readonly string[] {
  const folder = join(host.dir, 'data/netns')
  const names = readdirSync(folder).filter(name => !isTemporary(name))
  return names.map(name => readFileSync(join(folder, name), 'utf8'))
}

t.test(
  'an attach that is committed and that its host sees too late leaves no address',
  { skip: cannotRun() },
  async t => {
    const lab = await Lab.create()
    t.teardown(() => lab.destroy())
    const [h1] = await lab.addServers(1)
    if (h1 === undefined) throw new Error('no host')
    const h2 = await lab.addHost({ role: 'client', join: ['192.0.2.1'], settings: { collectAfter: 0 } })
    const log = await freezable(t, lab, h2)
    await h2.startAgent()
    await h2.waitReady()
    await h1.api.call('POST', '/v1/networks', { name: 'red', subnet: '10.1.0.0/24' })
    const [one, two, three] = (await lab.containers(['c1', 'c2', 'c3'])) as [never, never, never]
    const attached = async (host: LabHost): Promise<string[]> =>
      ((await host.api.call('GET', '/v1/endpoints')) as EndpointView[]).map(({ containerId }) => containerId)
    await h2.attach(one, 'red')

    await log.freeze()
    await t.rejects(h2.attach(two, 'red'), { code: 'ERR_TIMEOUT' })
    t.same(await attached(h1), ['c1', 'c2'], 'it is committed')
    await log.thaw()
    const onlyTheFirst = async (): Promise<boolean> => (await attached(h1)).join() === 'c1'
    t.ok(await waitFor('c2 is released', onlyTheFirst, { timeoutMs: RELEASED_MS }))

    await log.freeze()
    await t.rejects(h2.attach(three, 'red'), { code: 'ERR_TIMEOUT' })
    // The record is written after the answer.
    await waitFor('it is on the disk that c3 is unfinished', () => recordsOf(h2).some(text => text.includes('"c3"')))
    const killed = h2.killAgent()
    await log.thaw()
    await killed
    t.same(await attached(h1), ['c1', 'c3'], 'nobody has released it yet')
    await h2.startAgent()
    await h2.waitReady()
    const explain = (): string => `${h2.logTail()}\n${recordsOf(h2).join('\n')}`
    t.ok(await waitFor('c3 is released', onlyTheFirst, { timeoutMs: RELEASED_MS, explain }))
    t.ok(await waitFor('its host has seen that', async () => (await h2.status()).endpoints === 1))
    t.match(await h2.status(), { overlay: { degraded: [] } })
    t.match(await h2.attach(three, 'red'), { containerId: 'c3' })
  }
)
