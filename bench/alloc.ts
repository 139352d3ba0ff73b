// Allocations compared with etcd: three servers each, on the same hosts and the same disk, and one client process with a
// fixed number of requests in flight. Ours and etcd's alternate; the figures are medians over the rounds. The processor time
// of a request is counted for the leader, each follower and the client.
//   npm run -s bench -- alloc [--rounds N]

import { mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { startDetached, type ChildHandle } from '#platform/process.ts'
import type { LabHost } from '../test/lab/host.ts'
import { JsonProcess } from '../test/lab/json-process.ts'
import { must } from '../test/lab/kernel.ts'
import { Lab } from '../test/lab/lab.ts'
import { waitFor } from '../test/lab/wait.ts'
import { agentsByRole, measureCpu, type Processes } from './drivers/cpu.ts'
import type { Load, Measured } from './drivers/driver.ts'
import { debianProgram } from './drivers/debian.ts'
import { NETWORK, renewNetwork } from './drivers/network.ts'
import { median, rounded, say, type Figures, type Report } from './report.ts'

const SERVERS = 3
const LOADS = {
  serial: { concurrency: 1, count: 400, maxMs: 4_000 },
  throughput16: { concurrency: 16, count: 6_000, maxMs: 3_000 },
  throughput64: { concurrency: 64, count: 20_000, maxMs: 3_000 },
  throughput256: { concurrency: 256, count: 40_000, maxMs: 3_000 }
} as const satisfies Record<string, Load>
const WARM_UP: Load = { concurrency: 64, count: 2_000, maxMs: 3_000 }

type LoadName = keyof typeof LOADS
/** `cpu`: microseconds a request, by process. */
type Run = Measured & { readonly cpu: Figures }
type Runs = Record<LoadName, Run[]>

export async function bench(args: readonly string[]): Promise<Report> {
  const { values } = parseArgs({ args: [...args], options: { rounds: { type: 'string', default: '5' } } })
  const etcd = await debianProgram('etcd-server', 'usr/bin/etcd')
  const lab = await Lab.create()
  const others: ChildHandle[] = []
  const drivers: JsonProcess[] = []
  try {
    const servers = await lab.addServers(SERVERS)
    const etcds = await startEtcd(lab, servers, etcd)
    others.push(...etcds)
    const client = await lab.addHost({ role: 'client', join: ['192.0.2.1'], logLevel: 'warn' })
    const ours = await startOurs(lab, client)
    drivers.push(ours)
    const leader = await etcdLeader(servers)
    const theirs = await startDriver(client, 'etcd.ts', `http://${leader}:2379`)
    drivers.push(theirs)
    const pidsOfEtcd = (isLeader: boolean): number[] =>
      etcds.filter((_, n) => (servers[n]?.address === leader) === isLeader).map(({ pid }) => pid)
    const etcdProcesses = { leader: pidsOfEtcd(true), follower: pidsOfEtcd(false), client: [theirs.pid] }
    const ourProcesses = async (): Promise<Processes> => ({ ...(await agentsByRole(servers)), client: [ours.pid] })
    await measure(ours, WARM_UP, await ourProcesses())
    await measure(theirs, WARM_UP, etcdProcesses)
    const runs = { ours: emptyRuns(), theirs: emptyRuns() }
    for (let round = 1; round <= Number(values.rounds); round++) {
      for (const name of Object.keys(LOADS) as LoadName[]) {
        await renewNetwork(lab.host(1))
        const pair = [
          await measure(ours, LOADS[name], await ourProcesses()),
          await measure(theirs, LOADS[name], etcdProcesses)
        ] as const
        runs.ours[name].push(pair[0])
        runs.theirs[name].push(pair[1])
        say(`round ${round} ${name}: ours ${words(pair[0])}; etcd ${words(pair[1])}`)
      }
    }
    const cpuMicrosARequest = { ours: cpuFigures(runs.ours), peer: cpuFigures(runs.theirs) }
    return {
      ours: figures(runs.ours),
      peer: figures(runs.theirs),
      facts: { rounds: Number(values.rounds), cpuMicrosARequest }
    }
  } finally {
    for (const driver of drivers) await driver.stop()
    for (const process of others) process.kill('SIGKILL')
    await lab.destroy()
  }
}

/** Creates the network to allocate from, and starts the client. */
async function startOurs(lab: Lab, client: LabHost): Promise<JsonProcess> {
  await renewNetwork(lab.host(1))
  return startDriver(client, 'agent.ts', client.configFile, NETWORK)
}

async function startEtcd(lab: Lab, hosts: readonly LabHost[], program: string): Promise<ChildHandle[]> {
  const cluster = hosts.map(h => `${h.name}=http://${h.address}:2380`).join()
  return Promise.all(
    hosts.map(async ({ name, namespace, address }) => {
      const dir = join(lab.dir, `etcd-${name}`)
      await mkdir(dir, { mode: 0o700 })
      const urls = (port: number): string => `http://${address}:${port}`
      const flags = {
        name,
        'data-dir': join(dir, 'data'),
        'listen-peer-urls': urls(2380),
        'initial-advertise-peer-urls': urls(2380),
        'listen-client-urls': urls(2379),
        'advertise-client-urls': urls(2379),
        'initial-cluster': cluster,
        'initial-cluster-state': 'new',
        'quota-backend-bytes': `${4 * 1024 ** 3}`,
        'log-level': 'error'
      }
      const args = Object.entries(flags).map(([flag, value]) => `--${flag}=${value}`)
      return startDetached('ip', ['netns', 'exec', namespace, program, ...args], { logFile: join(dir, 'log') })
    })
  )
}

/** The leader's address, according to etcd's own metrics. */
function etcdLeader(hosts: readonly LabHost[]): Promise<string> {
  return waitFor(
    'etcd has a leader',
    async () => {
      for (const { namespace, address } of hosts) {
        const ask = ['netns', 'exec', namespace, process.execPath, '-e', ASK_METRICS, `http://${address}:2379/metrics`]
        if (/^etcd_server_is_leader 1$/m.test(await must('ip', ask))) return address
      }
      return null
    },
    { timeoutMs: 20_000, everyMs: 200 }
  )
}

const ASK_METRICS = "fetch(process.argv[1]).then(r => r.text()).then(t => console.log(t), () => console.log(''))"

/** Starts a client process on a host. */
function startDriver(host: LabHost, file: string, ...args: readonly string[]): Promise<JsonProcess> {
  return JsonProcess.start(host.namespace, resolve(import.meta.dirname, 'drivers', file), args)
}

async function measure(driver: JsonProcess, load: Load, processes: Processes): Promise<Run> {
  const { result, micros } = await measureCpu(processes, async () => (await driver.ask(load)) as Measured)
  const each = Object.entries(micros).map(([name, used]) => [name, used / Math.max(1, result.done)] as const)
  return { ...result, cpu: Object.fromEntries(each) }
}

function emptyRuns(): Runs {
  return { serial: [], throughput16: [], throughput64: [], throughput256: [] }
}

function figures(runs: Runs): Figures {
  const over = (name: LoadName, pick: (m: Measured) => number): number => median(runs[name].map(pick))
  return {
    serialP50Ms: over('serial', m => m.p50Ms),
    serialP99Ms: over('serial', m => m.p99Ms),
    throughput16: over('throughput16', m => m.perSecond),
    throughput64: over('throughput64', m => m.perSecond),
    throughput256: over('throughput256', m => m.perSecond),
    throughput16P99Ms: over('throughput16', m => m.p99Ms),
    throughput64P99Ms: over('throughput64', m => m.p99Ms),
    throughput256P99Ms: over('throughput256', m => m.p99Ms)
  }
}

/** Medians by load and process. A follower's figure is that of one. */
function cpuFigures(runs: Runs): Record<string, Figures> {
  const names = ['leader', 'follower', 'client']
  const of = (name: LoadName): Figures =>
    Object.fromEntries(names.map(each => [each, rounded(median(runs[name].map(({ cpu }) => cpu[each] ?? 0)))]))
  return Object.fromEntries((Object.keys(LOADS) as LoadName[]).map(name => [name, of(name)]))
}

function words({ perSecond, p50Ms, p99Ms, failed, cpu }: Run): string {
  const failures = failed === 0 ? '' : `, ${failed} failed`
  const micros = Object.values(cpu).map(Math.round).join('/')
  return `${perSecond.toFixed(0)}/s p50 ${p50Ms.toFixed(2)} p99 ${p99Ms.toFixed(2)} ms, cpu ${micros} us${failures}`
}
