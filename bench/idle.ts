// What agents take while nothing happens: three servers and clients, as the package bundles them, with two containers. Resident
// memory, processor time and wake-ups of an agent by its role, and of its Serf. With --against the program of another release
// takes turns with this one; the figures are medians over the rounds.
//   npm run -s bench -- idle [--hosts N] [--rounds N] [--settle S] [--seconds S] [--against PROGRAM]

import { readdirSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { Lab } from '../test/lab/lab.ts'
import type { LabHost } from '../test/lab/host.ts'
import { buildProgram } from '../test/suite/program.ts'
import { cpuMicros } from './drivers/cpu.ts'
import { median, say, type Figures, type Report } from './report.ts'

const SERVERS = 3
const READY_MS = 60_000

type Plan = { readonly hosts: number; readonly settleMs: number; readonly measureMs: number }
/** By name, one value a process and round. */
type Samples = Map<string, number[]>
type Process = { readonly role: string; readonly pid: number }

export async function bench(args: readonly string[]): Promise<Report> {
  const options = {
    hosts: { type: 'string', default: '4' },
    rounds: { type: 'string', default: '3' },
    settle: { type: 'string', default: '60' },
    seconds: { type: 'string', default: '30' },
    against: { type: 'string' }
  } as const
  const { values } = parseArgs({ args: [...args], options })
  const [hosts, rounds] = [Number(values.hosts), Number(values.rounds)]
  const plan = { hosts, settleMs: Number(values.settle) * 1_000, measureMs: Number(values.seconds) * 1_000 }
  const own = await buildProgram(resolve(import.meta.dirname, '..'))
  const programs = values.against === undefined ? [own] : [own, resolve(values.against)]
  const sides = programs.map(program => ({ program, samples: new Map<string, number[]>() }))
  for (let round = 1; round <= rounds; round++) {
    for (const { program, samples } of sides) {
      await measure({ ...plan, program }, samples)
      say(`round ${round} ${program}: ${JSON.stringify(figures(samples))}`)
    }
  }
  const [ours, peer] = sides.map(({ samples }) => figures(samples))
  if (ours === undefined) throw new Error('nothing measured')
  return { ours, ...(peer === undefined ? {} : { peer }), facts: { hosts, rounds } }
}

async function measure(p: Plan & { readonly program: string }, samples: Samples): Promise<void> {
  const lab = await Lab.create()
  try {
    await start(lab, p)
    await pause(p.settleMs)
    const processes = await processesOf(lab.hosts)
    const before = processes.map(({ pid }) => usedBy(pid))
    await pause(p.measureMs)
    const after = await processesOf(lab.hosts)
    for (const [at, { role, pid }] of processes.entries()) {
      const [then, now] = [before[at], usedBy(pid)]
      if (then === undefined || after[at]?.role !== role) throw new Error('the leader changed: this is not idle')
      const seconds = p.measureMs / 1_000
      add(samples, `${role}CpuPercent`, (now.micros - then.micros) / (seconds * 10_000))
      add(samples, `${role}WakeUps`, (now.wakeUps - then.wakeUps) / seconds)
      add(samples, `${role}Mib`, memoryOf(pid, 'Rss'))
      add(samples, `${role}OwnMib`, memoryOf(pid, 'Private_Dirty'))
    }
  } finally {
    await lab.destroy()
  }
}

/** Servers, then clients, and a container on the first and on the last host. */
async function start(lab: Lab, p: { readonly hosts: number; readonly program: string }): Promise<void> {
  const join = [lab.addressOf(1)]
  const common = { join, logLevel: 'info' }
  for (let n = 0; n < p.hosts; n++) {
    const host = await lab.addHost({ ...common, ...(n < SERVERS ? { bootstrapExpect: SERVERS } : { role: 'client' }) })
    host.program = p.program
  }
  await Promise.all(lab.hosts.map(host => host.startAgent()))
  await Promise.all(lab.hosts.map(host => host.waitReady(READY_MS)))
  await lab.host(1).api.call('POST', '/v1/networks', { name: 'idle', subnet: '10.20.0.0/24' })
  const [one, two] = await lab.containers(['one', 'two'])
  if (one === undefined || two === undefined) throw new Error('no containers')
  await lab.host(1).attach(one, 'idle')
  await lab.host(p.hosts).attach(two, 'idle')
}

async function processesOf(hosts: readonly LabHost[]): Promise<Process[]> {
  const roles = await Promise.all(hosts.map(async host => (await host.status()).raft.role))
  return hosts.flatMap((host, at) => [
    { role: roles[at] ?? 'none', pid: host.agentPid },
    ...(host.serfPid === null ? [] : [{ role: 'serf', pid: host.serfPid }])
  ])
}

/** Processor time, and how often a thread of the process was woken. */
function usedBy(pid: number): { readonly micros: number; readonly wakeUps: number } {
  const tasks = readdirSync(`/proc/${pid}/task`)
  const switches = tasks.map(task => fieldOf(`/proc/${pid}/task/${task}/status`, 'voluntary_ctxt_switches'))
  return { micros: cpuMicros(pid), wakeUps: switches.reduce((sum, count) => sum + count, 0) }
}

/** MiB of one kind. */
function memoryOf(pid: number, field: 'Rss' | 'Private_Dirty'): number {
  return fieldOf(`/proc/${pid}/smaps_rollup`, field) / 1_024
}

function fieldOf(path: string, field: string): number {
  return Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(readFileSync(path, 'utf8'))?.[1])
}

function add(samples: Samples, name: string, value: number): void {
  samples.set(name, [...(samples.get(name) ?? []), value])
}

function figures(samples: Samples): Figures {
  return Object.fromEntries([...samples].map(([name, values]) => [name, median(values)]))
}

function pause(ms: number): Promise<unknown> {
  return new Promise(resolve => setTimeout(resolve, ms))
}
