// Hostile inputs on every socket of a real agent: it keeps running, its state holds only valid requests, its memory does not
// grow.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { EndpointView, NetworkView } from '#model/views.ts'
import type { LabHost } from '../lab/host.ts'
import { Lab } from '../lab/lab.ts'
import { expectOracle } from '../lab/oracle.ts'
import { waitFor } from '../lab/wait.ts'
import { askUntil, quantile } from '../fuzz/good-client.ts'
import { cannotRun } from '../lab/requirements.ts'
import { run } from '../lab/run.ts'

const INPUTS = 20_000
/** Rate while a well-behaved client measures its latency; later inputs are sent as fast as the agent takes them. */
const PER_SECOND = 1_000
const MEMORY_SLACK_KIB = 64 * 1024
const QUIET_MS = 5_000
const CLIENT = join(import.meta.dirname, '../fuzz/live-client.ts')

type Figures = { readonly sent: Readonly<Record<string, number>>; readonly total: number; readonly answered: number }

function memoryKiB(host: LabHost): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${host.agentPid}/status`, 'utf8'))?.[1])
}

async function attack(host: LabHost, inputs: number, seed: number, perSecond = Infinity): Promise<Figures> {
  const args = [`--net=/run/netns/${host.namespace}`, process.execPath, CLIENT, host.socket, host.address]
  const { stdout, stderr, exitCode } = await run('nsenter', [...args, `${inputs}`, `${seed}`, `${perSecond}`], {
    timeoutMs: 200_000
  })
  if (exitCode !== 0) throw new Error(`the client: ${stderr}`)
  return JSON.parse(stdout) as Figures
}

/** The longest stall of the agent's event loop since the last call, ms. */
async function longestStallMs(host: LabHost): Promise<number> {
  const program = "fetch('http://127.0.0.1:7380/metrics').then(answer => answer.text()).then(console.log)"
  const { stdout } = await host.exec(process.execPath, '-e', program)
  return 1_000 * Number(/^nodejs_eventloop_lag_max_seconds (\S+)/m.exec(stdout)?.[1])
}

t.test(`${INPUTS} hostile inputs on all sockets`, { skip: cannotRun() }, async t => {
  const lab = await Lab.create()
  t.teardown(() => lab.destroy())
  await lab.addServers(1)
  const host = lab.host(1)
  await host.api.call('POST', '/v1/networks', { name: 'kept', subnet: '10.66.0.0/24' })
  const container = await lab.container('kept')
  await host.attach(container, 'kept')
  const kept = async (): Promise<unknown> => {
    const networks = (await host.api.call('GET', '/v1/networks')) as NetworkView[]
    const endpoints = (await host.api.call('GET', '/v1/endpoints')) as EndpointView[]
    const { rxBytes, txBytes, rxPackets, txPackets, rxRate, txRate, ...endpoint } =
      endpoints.find(({ network }) => network === 'kept') ?? ({} as EndpointView)
    return { endpoint, network: networks.find(({ name }) => name === 'kept') }
  }
  const [before, pid] = [await kept(), host.agentPid]
  const memoryAtStart = memoryKiB(host)
  const stays = (memoryBefore: number, when: string): void => {
    const memory = memoryKiB(host)
    t.ok(memory <= memoryBefore + MEMORY_SLACK_KIB, `${when}: ${memory} KiB, ${memoryBefore} before`)
  }

  const quietUntil = performance.now() + QUIET_MS
  const quiet = await askUntil(host.socket, () => performance.now() > quietUntil)
  await longestStallMs(host)
  let over = false
  const asking = askUntil(host.socket, () => over)
  const figures = await attack(host, INPUTS, 1, PER_SECOND).finally(() => (over = true))
  const disturbed = await asking
  const stallMs = await longestStallMs(host)
  const p99 = { quietMs: quantile(quiet, 0.99), disturbedMs: quantile(disturbed, 0.99) }
  t.comment(JSON.stringify({ ...figures, stallMs, p99, goodCalls: disturbed.length }))
  t.equal(figures.total, INPUTS)
  t.ok(figures.answered > 0, 'requests to ROUTER are answered')
  t.ok(disturbed.length > 100, 'the well-behaved client was served throughout')
  stays(memoryAtStart, 'since the agent started')

  // Floods keep it busy without a pause. The first may still grow the heap; the second must not.
  await attack(host, INPUTS, 2)
  const memoryBefore = memoryKiB(host)
  await attack(host, INPUTS, 3)
  stays(memoryBefore, 'from one flood to the next')
  t.equal(host.agentPid, pid)
  t.same(
    host
      .logTail(Infinity)
      .split('\n')
      .filter(line => /"level":"(error|fatal)"|unhandled|uncaught/i.test(line)),
    []
  )
  t.same(await kept(), before, 'network and endpoint are unchanged')
  await waitFor('ready', async () => (await host.status()).ready)
  await expectOracle(lab)
})
