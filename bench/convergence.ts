// How soon a change is usable from another host, in a mesh of ten: from an acknowledged attach to the new container's first
// reply, and from the start of an agent on a new host to the first reply of a container there.

import type { LabContainer } from '../test/lab/container.ts'
import type { LabHost } from '../test/lab/host.ts'
import { Lab } from '../test/lab/lab.ts'
import { waitFor } from '../test/lab/wait.ts'
import { median, quantile, say, type Report } from './report.ts'

const HOSTS = 10
const SERVERS = 3
const ATTACHES = 100
const JOINS = 5

export async function bench(): Promise<Report> {
  const lab = await Lab.create()
  try {
    await lab.addServers(SERVERS)
    for (let n = SERVERS; n < HOSTS - 1; n++) await startClient(lab)
    for (const host of lab.hosts) await host.waitReady(60_000)
    const h1 = lab.host(1)
    await h1.api.call('POST', '/v1/networks', { name: 'bench', subnet: '10.1.0.0/16' })
    const watcher = await lab.container('watcher')
    await h1.attach(watcher, 'bench')
    const visible = await attachVisible(lab, watcher)
    const joins = await joinReachable(lab, watcher)
    return {
      ours: { attachVisibleP99Ms: quantile(visible, 0.99), joinReachableMs: median(joins) },
      facts: {
        attachVisibleP50Ms: median(visible),
        joinReachableWorstMs: Math.max(...joins),
        hosts: HOSTS,
        attaches: ATTACHES
      }
    }
  } finally {
    await lab.destroy()
  }
}

async function startClient(lab: Lab): Promise<LabHost> {
  const host = await lab.addHost({ role: 'client', join: ['192.0.2.1', '192.0.2.2', '192.0.2.3'] })
  await host.startAgent()
  return host
}

/** Attaches on every other host in turn, with pings already running. @returns ms from the answer to the first reply */
async function attachVisible(lab: Lab, watcher: LabContainer): Promise<number[]> {
  const containers = await lab.containers(Array.from({ length: ATTACHES }, (_, n) => `new${n}`))
  const times: number[] = []
  for (const [n, container] of containers.entries()) {
    const view = await lab.host(2 + (n % (HOSTS - 2))).attach(container, 'bench')
    times.push(await firstReply(watcher, view.address))
  }
  say(`convergence: ${ATTACHES} attaches, first reply after ${median(times).toFixed(0)} ms`)
  return times
}

/** A tenth host joins, gets a container, is reached, and leaves again. */
async function joinReachable(lab: Lab, watcher: LabContainer): Promise<number[]> {
  const times: number[] = []
  for (let n = 0; n < JOINS; n++) {
    const container = await lab.container(`join${n}`)
    const since = performance.now()
    const host = await startClient(lab)
    const attach = () => host.attach(container, 'bench')
    const view = await waitFor('the container is attached', attach, { timeoutMs: 30_000, everyMs: 5 })
    await firstReply(watcher, view.address)
    times.push(performance.now() - since)
    say(`convergence: a new host's container answers after ${Math.round(times.at(-1) ?? 0)} ms`)
    await host.api.call('DELETE', `/v1/endpoints/${container.name}`)
    await host.api.call('POST', '/v1/leave')
    await host.agentGone()
  }
  return times
}

/** Sends a ping every 10 ms until the first reply, which is the resolution of the figure. */
async function firstReply(from: LabContainer, address: string): Promise<number> {
  const since = performance.now()
  const reply = async (): Promise<boolean> => (await from.ping(address, { count: 1, waitMs: 100 })).received === 1
  await waitFor('the first reply', reply, { timeoutMs: 30_000, everyMs: 1 })
  return performance.now() - since
}
