// Chaos test on real servers: three agents on namespace hosts are killed, partitioned, paused and restarted while
// addresses are claimed and released through a fourth. Afterwards every acknowledged claim must exist, every acknowledged
// release must be gone, no address may be assigned twice, and the state must be equal on all hosts. Then the leader is
// killed repeatedly, and the time to the next acknowledged claim is measured.
//   npm run -s chaos -- [--rounds 60] [--failovers 50] [--lanes 48] [--seed N]     the last line is one JSON object
//   npm run -s chaos -- --hostile [--minutes 30] [--seed N]     instead: a member that forges messages (hostile/run.ts)

import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { quantile } from '../demo/checks.ts'
import type { LabHost } from '../lab/host.ts'
import { JsonProcess } from '../lab/json-process.ts'
import { Lab } from '../lab/lab.ts'
import { waitFor } from '../lab/wait.ts'
import { Random } from '../sim/random.ts'
import { CHAOS_FAULTS, type Servers } from './chaos-faults.ts'
import { findFaults } from './find-faults.ts'
import { hostMs } from './host-clock.ts'
import { attackByMember } from './hostile/run.ts'
import type { LoadReport } from './load.ts'

const SERVERS = 3
const NETWORK = 'chaos'

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '60' },
    failovers: { type: 'string', default: '50' },
    lanes: { type: 'string', default: '48' },
    hostile: { type: 'boolean', default: false },
    minutes: { type: 'string', default: '30' },
    seed: { type: 'string', default: `${Date.now() % 1_000_000}` }
  }
})
const random = new Random(Number(values.seed))
console.log(`seed ${values.seed}`)
if (values.hostile) {
  const passed = await attackByMember({ minutes: Number(values.minutes), seed: Number(values.seed) })
  process.exit(passed ? 0 : 7)
}

const lab = await Lab.create()
try {
  await lab.addServers(SERVERS)
  const client = await lab.addHost({ role: 'client', join: ['192.0.2.1'], logLevel: 'warn' })
  await lab.host(1).api.call('POST', '/v1/networks', { name: NETWORK, subnet: '10.0.0.0/16' })
  const script = resolve(import.meta.dirname, 'load.ts')
  const load = await JsonProcess.start(client.namespace, script, [client.configFile, NETWORK, values.lanes])
  const acts = await injectFaults(Number(values.rounds))
  const failovers = await killLeaders(load, Number(values.failovers))
  const report = (await load.ask('stop')) as LoadReport
  const faults = await findFaults({ servers: lab.hosts.slice(0, SERVERS), network: NETWORK, report })
  for (const fault of faults.slice(0, 20)) console.log(`FAULT ${fault}`)
  await load.stop()
  const { acknowledged, retries, refusals } = report
  const failover = failovers.length === 0 ? null : summarize(failovers)
  const digests = new Set(
    await Promise.all(lab.hosts.slice(0, SERVERS).map(async host => (await host.status()).digest))
  )
  const result = { seed: Number(values.seed), rounds: Number(values.rounds), acts, acknowledged, retries, refusals }
  console.log(JSON.stringify({ ...result, faults: faults.length, digests: digests.size, failover }))
  process.exitCode = faults.length === 0 && acknowledged > 0 ? 0 : 7
} finally {
  await lab.destroy()
}

/** Injects one fault per round and repairs it before the next. @returns how often each fault was injected */
async function injectFaults(rounds: number): Promise<Record<string, number>> {
  const done: Record<string, number> = {}
  for (let round = 1; round <= rounds; round++) {
    const servers: Servers = { all: lab.hosts.slice(0, SERVERS), leader: await findLeader(), random }
    const act = random.pick(CHAOS_FAULTS)
    done[act.name] = (done[act.name] ?? 0) + 1
    await act.begin(servers)
    await pause(random.between(100, 2_500))
    await act.repair(servers)
    await pause(random.between(0, 1_500))
    console.log(`round ${round}: ${act.name}`)
  }
  return done
}

/** Kills the leader of a healthy cluster repeatedly. @returns for each kill, milliseconds until a later claim succeeded */
async function killLeaders(load: JsonProcess, kills: number): Promise<number[]> {
  const took: number[] = []
  for (let n = 1; n <= kills; n++) {
    const leader = await findLeader()
    await Promise.all(lab.hosts.slice(0, SERVERS).map(host => host.waitReady()))
    const killedAt = hostMs()
    await leader.killAgent()
    const next = await waitFor(
      'a claim is acknowledged after the kill',
      async () => (await load.ask(`acknowledged-after ${killedAt}`)) as number | null,
      { timeoutMs: 30_000, everyMs: 50 }
    )
    took.push(next - killedAt)
    console.log(`failover ${n}: ${(next - killedAt).toFixed(0)} ms`)
    await leader.startAgent()
  }
  return took
}

function findLeader(): Promise<LabHost> {
  return waitFor(
    'a server leads',
    async () => {
      for (const host of lab.hosts.slice(0, SERVERS)) {
        if (host.agentIsGone) continue
        const status = await host.status().catch(() => null)
        if (status?.raft.role === 'leader') return host
      }
      return null
    },
    { timeoutMs: 30_000 }
  )
}

function summarize(took: readonly number[]): Record<string, number> {
  const round = (value: number): number => Math.round(value)
  const [p50Ms, p99Ms] = [round(quantile(took, 0.5)), round(quantile(took, 0.99))]
  return { kills: took.length, p50Ms, p99Ms, worstMs: round(Math.max(...took)) }
}

function pause(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}
