// One host with more and more changes in flight, until it refuses some: how many it completes then, compared with a load that it
// takes with ease, and how soon it refuses the others. No change may end without an answer.
//   npm run -s bench -- overload [--rounds N]

import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { JsonProcess } from '../test/lab/json-process.ts'
import { Lab } from '../test/lab/lab.ts'
import type { Load, Measured } from './drivers/driver.ts'
import { NETWORK, renewNetwork } from './drivers/network.ts'
import { median, say, type Figures, type Report } from './report.ts'

const SERVERS = 3
const EASY = 256
const LOADS = [EASY, 1_000, 2_000, 4_000]
const COUNT = 60_000
const MAX_MS = 4_000

export async function bench(args: readonly string[]): Promise<Report> {
  const { values } = parseArgs({ args: [...args], options: { rounds: { type: 'string', default: '3' } } })
  const lab = await Lab.create()
  let driver: JsonProcess | null = null
  try {
    await lab.addServers(SERVERS)
    const client = await lab.addHost({ role: 'client', join: ['192.0.2.1'], logLevel: 'warn' })
    await renewNetwork(lab.host(1))
    const script = resolve(import.meta.dirname, 'drivers/agent.ts')
    driver = await JsonProcess.start(client.namespace, script, [client.configFile, NETWORK])
    await measure(driver, EASY)
    const runs = new Map<number, Measured[]>(LOADS.map(concurrency => [concurrency, []]))
    for (let round = 1; round <= Number(values.rounds); round++) {
      for (const [concurrency, measured] of runs) {
        await renewNetwork(lab.host(1))
        const one = await measure(driver, concurrency)
        measured.push(one)
        say(`round ${round}, ${concurrency} in flight: ${words(one)}`)
      }
    }
    const easy = perSecond(runs.get(EASY) ?? [])
    const ours: Figures = Object.fromEntries([...runs].map(([n, all]) => [`perSecond${n}`, perSecond(all)]))
    const limit: Figures = Object.fromEntries(LOADS.map(n => [`perSecond${n}`, easy]))
    const sum = (pick: (m: Measured) => number): number => [...runs.values()].flat().reduce((n, m) => n + pick(m), 0)
    const refusedP99Ms = Math.max(...[...runs.values()].flat().map(m => m.refusedP99Ms))
    const facts = {
      rounds: Number(values.rounds),
      unanswered: sum(m => m.failed),
      refused: sum(m => m.refused),
      refusedP99Ms
    }
    return { ours, limit, facts }
  } finally {
    await driver?.stop()
    await lab.destroy()
  }
}

async function measure(driver: JsonProcess, concurrency: number): Promise<Measured> {
  const load: Load = { concurrency, count: COUNT, maxMs: MAX_MS }
  return (await driver.ask(load)) as Measured
}

function perSecond(all: readonly Measured[]): number {
  return median(all.map(one => one.perSecond))
}

function words(m: Measured): string {
  const refused = `${m.refused} refused (p99 ${m.refusedP99Ms.toFixed(1)} ms)`
  return `${m.perSecond.toFixed(0)}/s p50 ${m.p50Ms.toFixed(0)} p99 ${m.p99Ms.toFixed(0)} ms, ${m.failed} unanswered, ${refused}`
}
