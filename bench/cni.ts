// ADD and DEL of containers compared with Debian's bridge and host-local plugins on the same host: one at a time, and fifty
// at once. Ours have three servers with durable logs. Both alternate; the figures are medians over the rounds.
//   npm run -s bench -- cni [--rounds N] [--containers N] [--host-access] [--client] [--dual]
// With --dual a network of both families takes turns with the two; `facts.dual` has its figures, and what they are of ours.

import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { buildPlugin, PLUGIN } from '../test/cni/plugin.ts'
import { JsonProcess } from '../test/lab/json-process.ts'
import { Lab } from '../test/lab/lab.ts'
import type { CniLoad } from './drivers/cni.ts'
import { debianProgram } from './drivers/debian.ts'
import { median, quantile, ratios, say, type Figures, type Report } from './report.ts'

const PARALLEL = 50

type Side = { readonly name: string; readonly program: string; readonly config: object }
type Container = CniLoad['containers'][number]
type Runs = Record<'add' | 'del' | 'addParallel' | 'delParallel', number[][]>

export async function bench(args: readonly string[]): Promise<Report> {
  const options = {
    rounds: { type: 'string', default: '5' },
    containers: { type: 'string', default: '30' },
    'host-access': { type: 'boolean', default: false },
    client: { type: 'boolean', default: false },
    dual: { type: 'boolean', default: false }
  } as const
  const { values } = parseArgs({ args: [...args], options })
  const bridge = await debianProgram('containernetworking-plugins', 'usr/lib/cni/bridge')
  await buildPlugin()
  const lab = await Lab.create()
  try {
    const [server] = await lab.addServers(3)
    if (server === undefined) throw new Error('no host')
    const h1 = values.client ? await lab.addClient() : server
    const hostAccess = values['host-access']
    await h1.api.call('POST', '/v1/networks', { name: 'bench', subnet: '10.20.0.0/16', hostAccess })
    if (values.dual) {
      const subnets = ['10.21.0.0/16', 'fd00:21::/64']
      await h1.api.call('POST', '/v1/networks', { name: 'dual', subnets, hostAccess })
    }
    const { role } = (await h1.status()).raft
    say(`this host is ${role}`)
    const runtime = await JsonProcess.start(h1.namespace, resolve(import.meta.dirname, 'drivers/cni.ts'), [])
    const common = { cniVersion: '1.0.0', name: 'bench' }
    const ipam = {
      type: 'host-local',
      ranges: [[{ subnet: '10.22.0.0/16' }]],
      routes: [{ dst: '0.0.0.0/0' }],
      dataDir: join(lab.dir, 'host-local')
    }
    const ours = { ...common, type: 'vxmesh', socket: h1.socket, network: 'bench' }
    const theirs = { ...common, type: 'bridge', bridge: 'cni0', isGateway: true, ipam }
    const sides: readonly Side[] = [
      { name: 'ours', program: PLUGIN, config: ours },
      { name: 'bridge', program: bridge, config: theirs },
      ...(values.dual ? [{ name: 'dual', program: PLUGIN, config: { ...ours, network: 'dual' } }] : [])
    ]
    const runs = await Promise.all(sides.map(side => prepare(lab, runtime, side)))
    for (let round = 1; round <= Number(values.rounds); round++) {
      for (const [at, side] of sides.entries()) {
        const into = runs[at]
        if (into === undefined) throw new Error('no side')
        const name = `${side.name}${round}`
        await measure({ lab, runtime, side, into, name, serial: Number(values.containers) })
        say(`round ${round} ${side.name}: ${words(figures(into))}`)
      }
    }
    await runtime.stop()
    const [mine, peer, dual] = runs.map(figures)
    if (mine === undefined || peer === undefined) throw new Error('no runs')
    const facts = { rounds: Number(values.rounds), parallel: PARALLEL, role }
    return {
      ours: mine,
      peer,
      facts: { ...facts, ...(dual === undefined ? {} : { dual, dualToOurs: ratios({ ours: dual, peer: mine }) }) }
    }
  } finally {
    await lab.destroy()
  }
}

/** Warms up, and keeps one container attached so that neither side creates and deletes its bridge each time. */
async function prepare(lab: Lab, runtime: JsonProcess, side: Side): Promise<Runs> {
  const [resident, ...others] = await containers(lab, `${side.name}-warm`, 6)
  if (resident === undefined) throw new Error('no container')
  await call({ runtime, side, verb: 'ADD', containers: [resident, ...others], concurrency: 1 })
  await call({ runtime, side, verb: 'DEL', containers: others, concurrency: 1 })
  return { add: [], del: [], addParallel: [], delParallel: [] }
}

async function measure(p: {
  readonly lab: Lab
  readonly runtime: JsonProcess
  readonly side: Side
  readonly into: Runs
  readonly name: string
  readonly serial: number
}): Promise<void> {
  const { lab, runtime, side, into, name } = p
  const few = await containers(lab, `${name}s`, p.serial)
  into.add.push(await call({ runtime, side, verb: 'ADD', containers: few, concurrency: 1 }))
  into.del.push(await call({ runtime, side, verb: 'DEL', containers: few, concurrency: 1 }))
  const many = await containers(lab, `${name}p`, PARALLEL)
  into.addParallel.push(await call({ runtime, side, verb: 'ADD', containers: many, concurrency: PARALLEL }))
  into.delParallel.push(await call({ runtime, side, verb: 'DEL', containers: many, concurrency: PARALLEL }))
}

async function containers(lab: Lab, name: string, count: number): Promise<Container[]> {
  const made = await lab.containers(Array.from({ length: count }, (_, n) => `${name}${n}`))
  return made.map(({ name, netns }) => ({ id: name, netns }))
}

async function call(p: {
  readonly runtime: JsonProcess
  readonly side: Side
  readonly verb: 'ADD' | 'DEL'
  readonly containers: readonly Container[]
  readonly concurrency: number
}): Promise<number[]> {
  const { program, config } = p.side
  const load: CniLoad = { program, config, verb: p.verb, containers: p.containers, concurrency: p.concurrency }
  return (await p.runtime.ask(load)) as number[]
}

function figures(runs: Runs): Figures {
  const over = (times: readonly number[][], share: number): number => median(times.map(one => quantile(one, share)))
  return {
    addP50Ms: over(runs.add, 0.5),
    addP99Ms: over(runs.add, 0.99),
    addParallelP50Ms: over(runs.addParallel, 0.5),
    addParallelP99Ms: over(runs.addParallel, 0.99),
    delP50Ms: over(runs.del, 0.5),
    delP99Ms: over(runs.del, 0.99),
    delParallelP99Ms: over(runs.delParallel, 0.99)
  }
}

function words(values: Figures): string {
  return Object.entries(values)
    .map(([name, value]) => `${name} ${value.toFixed(1)}`)
    .join(', ')
}
