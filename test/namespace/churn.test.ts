// Containers that are attached and detached leave nothing: no device, namespace, entry, file descriptor, record or memory.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { asVxmeshError } from '#model/errors.ts'
import { CHAOS, CHAOS_TIMEOUT } from '../lab/chaos.ts'
import type { LabHost } from '../lab/host.ts'
import { listNamespaces, LAB_PREFIX } from '../lab/kernel.ts'
import { expectOracle, readKernel } from '../lab/oracle.ts'
import { waitFor } from '../lab/wait.ts'
import { meshLab, nth } from './mesh-lab.ts'
import { cannotRun } from '../lab/requirements.ts'

t.setTimeout(CHAOS_TIMEOUT)

/** Containers at once, as a scheduler starts them. */
const PARALLEL = 10
/** A heap may grow over a thousand attaches: compiled code, entries of the log. */
const MEMORY_SLACK_KIB = 64 * 1024

t.test(`nothing is left after ${CHAOS.churn} attaches and detaches`, { skip: cannotRun() }, async t => {
  const { lab, containers } = await meshLab(t, { servers: 2, attached: 2 })
  const [h1, h2] = [lab.host(1), lab.host(2)]
  await h1.api.call('POST', '/v1/networks', { name: 'blue', subnet: '10.1.0.0/24' })
  const names = Array.from({ length: PARALLEL }, (_, n) => `churn${n}`)
  const round = async (): Promise<void> => {
    const fresh = await lab.containers(names)
    // Half of them are in a network without other containers; some lose their namespace before the detach.
    await Promise.all(fresh.map((c, n) => (n % 3 === 0 ? h2 : h1).attach(c, n % 2 === 0 ? 'red' : 'blue')))
    await Promise.all(fresh.filter((_, n) => n % 5 === 0).map(c => c.remove()))
    await Promise.all(
      fresh.map(async (c, n) => {
        try {
          await (n % 3 === 0 ? h2 : h1).detach(c)
        } catch (err) {
          // The collector may have been faster where the namespace is gone.
          if (n % 5 !== 0 || asVxmeshError(err).code !== 'ERR_ENDPOINT_NOT_FOUND') throw err
        }
      })
    )
    await Promise.all(fresh.filter((_, n) => n % 5 !== 0).map(c => c.remove()))
  }
  await round()
  await round()
  await expectOracle(lab)
  const before = [await usage(h1), await usage(h2)]
  const namespaces = listNamespaces(LAB_PREFIX + lab.id).length
  for (let done = 0; done < CHAOS.churn; done += PARALLEL) await round()
  await expectOracle(lab)
  for (const [n, host] of [h1, h2].entries()) {
    const was = nth(before, n + 1)
    // Idle connections are closed a moment later, and an emptied network's router is removed by a later pass.
    const now = await waitFor(`${host.name} is as before`, async () => {
      const found = await usage(host)
      for (const what of ['devices', 'entries', 'neighbours', 'records', 'files'] as const) {
        const most = what === 'files' ? was.files + 3 : was[what]
        if (found[what] > most) throw new Error(`${found[what]} ${what}, ${was[what]} before`)
      }
      return found
    })
    t.ok(
      now.memoryKiB <= was.memoryKiB + MEMORY_SLACK_KIB,
      `${host.name}: ${now.memoryKiB} KiB, ${was.memoryKiB} before`
    )
    t.comment(`${host.name}: ${JSON.stringify(was)} -> ${JSON.stringify(now)}`)
  }
  t.equal(listNamespaces(LAB_PREFIX + lab.id).length, namespaces)
  t.equal((await nth(containers, 1).ping('10.1.0.3', { count: 3 })).received, 3)
})

type Usage = {
  readonly devices: number
  readonly entries: number
  readonly neighbours: number
  readonly records: number
  readonly files: number
  readonly memoryKiB: number
}

async function usage(host: LabHost): Promise<Usage> {
  const { links, fdb, neighbours } = await readKernel(host.namespace)
  const status = readFileSync(`/proc/${host.agentPid}/status`, 'utf8')
  return {
    devices: links.length,
    entries: fdb.filter(e => !/^(33:33|01:00:5e)/.test(e.mac)).length,
    neighbours: neighbours.filter(n => n.state.includes('PERMANENT')).length,
    records: readdirSync(join(host.dir, 'data/netns')).length,
    files: readdirSync(`/proc/${host.agentPid}/fd`).length,
    memoryKiB: Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1])
  }
}
