// What an overlay costs: TCP, 64-byte UDP packets, requests and processor time between two containers, on two namespace
// hosts (`hosts`) and on one (`local`). Our drivers, all guarded, are compared with a bridge and VXLAN made by ip(8), with a
// VXLAN device inside the container, and with no overlay at all (bench/throughput/form.ts). All forms exist at once, on hosts
// of their own, and are measured by turns. The agents of the other pairs are idle, but their processor time (about 1.5 %) is
// in every CPU figure alike; `idleCpuPercent` is what it was before the first round, and shows a machine that is not idle.
//   npm run -s bench -- throughput [--rounds N] [--ipv6]      the containers' traffic in IPv6; the hosts' stays IPv4

import { parseArgs } from 'node:util'
import { run } from '#platform/process.ts'
import { Lab } from '../test/lab/lab.ts'
import type { OpenVSwitch } from '../test/lab/open-vswitch.ts'
import { rounded, say, type Report } from './report.ts'
import { agentForms, whyNoOvs } from './throughput/agents.ts'
import { waitReachable, type Form, type FormName, type Path, type Reach } from './throughput/form.ts'
import { handMadeForms } from './throughput/hand-made.ts'
import { makeTools, MEASURED_MS, measurePath, type Measured, type Tools } from './throughput/measure.ts'
import { readBusyNs } from './throughput/proc.ts'
import { medians, ratios, type Runs } from './throughput/summary.ts'

const REACHES: readonly Reach[] = ['hosts', 'local']
const IDLE_MS = 2_000
const UNITS = { cpuPerGbit: 'processor seconds a Gbit', cpuNsPerPacket: 'processor ns a packet' }

type Turn = { readonly reach: Reach; readonly form: FormName; readonly path: Path }

export async function bench(args: readonly string[]): Promise<Report> {
  const { values } = parseArgs({
    args: [...args],
    options: { rounds: { type: 'string', default: '7' }, ipv6: { type: 'boolean', default: false } }
  })
  const rounds = Number(values.rounds)
  const family = values.ipv6 ? 'ipv6' : 'ipv4'
  for (const program of ['iperf3', 'gcc']) await needs(program)
  const lab = await Lab.create()
  const switches: OpenVSwitch[] = []
  try {
    const noOvs = await whyNoOvs()
    const handMade = await handMadeForms(lab, family)
    const agents = await agentForms(lab, { withOvs: noOvs === null, family })
    switches.push(...agents.switches)
    const turns = await turnsOf([...handMade, ...agents.forms])
    const idleCpuPercent = await idleCpu()
    const runs = await measureAll(await makeTools(lab.dir), turns, rounds)
    return report(runs, { rounds, family, idleCpuPercent, ...(noOvs === null ? {} : { leftOut: { ovs: noOvs } }) })
  } finally {
    for (const ovs of switches) await ovs.stop()
    await lab.destroy()
  }
}

/** @throws Error when a program of Debian's package of the same name is missing */
async function needs(program: string): Promise<void> {
  const { exitCode } = await run('sh', ['-c', 'command -v "$1"', 'sh', program])
  if (exitCode !== 0) throw new Error(`throughput needs ${program}: apt-get install ${program}`)
}

/** What there is to measure in a round, each found to be connected. */
async function turnsOf(forms: readonly Form[]): Promise<Turn[]> {
  const turns = REACHES.flatMap(reach =>
    forms.flatMap(({ name, paths }) => {
      const path = paths[reach]
      return path === undefined ? [] : [{ reach, form: name, path }]
    })
  )
  for (const { form, path } of turns) await waitReachable(form, path)
  return turns
}

/** Of one processor, with all agents alive and no traffic. */
async function idleCpu(): Promise<number> {
  const [since, before] = [performance.now(), readBusyNs()]
  await new Promise(resolve => setTimeout(resolve, IDLE_MS))
  return rounded(((readBusyNs() - before) / 1e6 / (performance.now() - since)) * 100)
}

/** Every other round goes backwards, so that a machine that becomes slower favours no form. */
async function measureAll(tools: Tools, turns: readonly Turn[], rounds: number): Promise<Runs> {
  const runs = { hosts: new Map<FormName, Measured[]>(), local: new Map<FormName, Measured[]>() }
  for (let round = 1; round <= rounds; round++) {
    for (const { reach, form, path } of round % 2 === 0 ? turns.toReversed() : turns) {
      const measured = await measurePath(tools, path)
      runs[reach].set(form, [...(runs[reach].get(form) ?? []), measured])
      say(`round ${round} ${reach} ${form}: ${words(measured)}`)
    }
  }
  return runs
}

function report(runs: Runs, facts: Readonly<Record<string, unknown>>): Report {
  const [forms, compared] = [medians(runs), ratios(runs)]
  const tcp = (form: FormName): number => forms.hosts[form]?.['tcp1BitsPerSecond'] ?? NaN
  return {
    ours: { tcpBitsPerSecond: tcp('bpf') },
    limit: { tcpBitsPerSecond: tcp('hand') },
    facts: {
      ...facts,
      seconds: MEASURED_MS / 1_000,
      medianOfRatios: compared.hosts['bpf/hand']?.['tcp1BitsPerSecond'],
      units: UNITS,
      forms,
      ratios: compared
    }
  }
}

function words(run: Measured): string {
  const gigabits = [run.tcp1BitsPerSecond, run.tcp4BitsPerSecond].map(rate => (rate / 1e9).toFixed(2)).join('/')
  const requests = `${run.requestsPerSecond.toFixed(0)} requests/s p50 ${run.p50Us.toFixed(1)} p99 ${run.p99Us.toFixed(1)} us`
  const cpu = `${run.cpuPerGbit.toFixed(3)} s/Gbit ${run.cpuNsPerPacket.toFixed(0)} ns/packet`
  return `${gigabits} Gbit/s, ${run.packetsPerSecond.toFixed(0)} packets/s, ${requests}, ${cpu}`
}
