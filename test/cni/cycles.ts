// Pods come and go while every tenth call is interrupted: the plugin or the agent is killed. The runtime behaves as the
// specification allows: it repeats DEL until it succeeds, or dies and never calls it. Afterwards no address, device,
// namespace or file of any pod may be left.
//   node test/cni/cycles.ts [--cycles 2000] [--lanes 8] [--seed N]      the last line is one JSON object

import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import type { EndpointView } from '#model/views.ts'
import { addPod, callFor, type Pod } from '../lab/cni-runtime.ts'
import type { LabHost } from '../lab/host.ts'
import { ipJson } from '../lab/kernel.ts'
import { Lab } from '../lab/lab.ts'
import { waitFor } from '../lab/wait.ts'
import { Random } from '../sim/random.ts'
import { buildPlugin } from './plugin.ts'

const HIT = 0.1
/** Share of kills that hit the agent. It takes a second to restart, while all lanes only retry. */
const AGENT_HIT = 0.3
/** Share of pods whose runtime dies too, so that DEL is never called. */
const FORGOTTEN = 0.1
/** When a kill comes, in milliseconds after the start of a call; an ADD takes about 10. */
const HIT_WITHIN_MS = 15

export type Cycles = { readonly cycles: number; readonly lanes: number; readonly seed: number }

export type CyclesReport = Cycles & {
  readonly added: number
  readonly pluginKills: number
  readonly agentKills: number
  readonly forgotten: number
  /** What was left behind, as text. */
  readonly leaks: readonly string[]
}

export async function runCycles(options: Cycles): Promise<CyclesReport> {
  await buildPlugin()
  const lab = await Lab.create()
  try {
    const settings = { collectAfter: 1 }
    await lab.addHost({ bootstrapExpect: 1, settings, logLevel: 'warn' })
    const host = await lab.addHost({ role: 'client', join: ['192.0.2.1'], settings, logLevel: 'warn' })
    await Promise.all(lab.hosts.map(one => one.startAgent()))
    await Promise.all(lab.hosts.map(one => one.waitReady()))
    await lab.host(1).api.call('POST', '/v1/networks', { name: 'pods', subnet: '10.30.0.0/22' })
    // The resident pod stays; only its objects may be left in the end.
    const resident = { container: await lab.container('resident'), network: 'pods' }
    await addPod(host, resident)
    const runtime = new Runtime(lab, host, options.seed)
    await Promise.all(Array.from({ length: options.lanes }, (_, lane) => runtime.lane(lane, options)))
    const leaks = await leaksOf(host, resident.container.name)
    return { ...options, ...runtime.counts, leaks }
  } finally {
    await lab.destroy()
  }
}

class Runtime {
  readonly counts = { added: 0, pluginKills: 0, agentKills: 0, forgotten: 0 }
  readonly #lab: Lab
  readonly #host: LabHost
  readonly #random: Random
  #started = 0
  #restart: Promise<void> | null = null

  constructor(lab: Lab, host: LabHost, seed: number) {
    this.#lab = lab
    this.#host = host
    this.#random = new Random(seed)
  }

  async lane(lane: number, { cycles }: Cycles): Promise<void> {
    while (this.#started < cycles) {
      this.#started += 1
      const container = await this.#lab.container(`l${lane}n${this.#started}`)
      await this.#cycle({ container, network: 'pods' })
      await container.remove()
    }
  }

  /** The life of a pod, from ADD to DEL or to the death of its runtime. */
  async #cycle(pod: Pod): Promise<void> {
    // In a short run chance alone may spare the agent.
    const isDue = this.counts.agentKills === 0 && this.counts.pluginKills >= 3
    const hit = this.#random.chance(HIT) ? (isDue || this.#random.chance(AGENT_HIT) ? 'agent' : 'plugin') : null
    const verb = this.#random.pick(['ADD', 'DEL'] as const)
    const { exitCode } = await this.#call('ADD', pod, verb === 'ADD' ? hit : null)
    if (exitCode === 0) this.counts.added += 1
    if (this.#random.chance(FORGOTTEN)) {
      this.counts.forgotten += 1
      return
    }
    if (verb === 'DEL' && hit !== null) await this.#call('DEL', pod, hit)
    await waitFor('DEL succeeds', async () => (await this.#call('DEL', pod, null)).exitCode === 0, {
      timeoutMs: 60_000,
      everyMs: 100,
      explain: () => this.#host.logTail()
    })
  }

  #call(verb: string, pod: Pod, hit: 'agent' | 'plugin' | null): Promise<{ readonly exitCode: number | null }> {
    const within = this.#random.between(0, HIT_WITHIN_MS)
    if (hit === 'agent') setTimeout(() => this.#killAgent(), within)
    const onSpawn = (kill: () => void): void => {
      if (hit !== 'plugin') return
      this.counts.pluginKills += 1
      setTimeout(kill, within)
    }
    return callFor(this.#host, verb, pod, { onSpawn })
  }

  #killAgent(): void {
    if (this.#restart !== null) return
    this.counts.agentKills += 1
    this.#restart = (async () => {
      await this.#host.killAgent()
      await this.#host.startAgent()
      await this.#host.waitReady()
    })().finally(() => (this.#restart = null))
  }
}

/** All objects of vxmesh on the host except those of the resident pod. */
async function leaksOf(host: LabHost, resident: string): Promise<readonly string[]> {
  await host.waitReady()
  let leaks: readonly string[] = []
  const clean = async (): Promise<boolean> => {
    leaks = await differences(host, resident)
    return leaks.length === 0
  }
  await waitFor('nothing is left', clean, { timeoutMs: 20_000 }).catch(() => undefined)
  return leaks
}

async function differences(host: LabHost, resident: string): Promise<readonly string[]> {
  const endpoints = (await host.api.call('GET', '/v1/endpoints')) as EndpointView[]
  const own = endpoints.find(({ containerId }) => containerId === resident)
  const links = (await ipJson(host.namespace, 'link', 'show')).map(({ ifname }) => String(ifname))
  const veths = links.filter(name => name.startsWith('ve') && name !== own?.hostInterface)
  const files = (await readdir(join(host.dir, 'data/netns'))).filter(name => name !== own?.hostInterface)
  return [
    ...endpoints.filter(one => one !== own).map(({ containerId }) => `endpoint ${containerId}`),
    ...(own === undefined ? ['the resident has lost its endpoint'] : []),
    ...veths.map(name => `device ${name}`),
    ...files.map(name => `file ${name}`)
  ]
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const { values } = parseArgs({
    options: {
      cycles: { type: 'string', default: '2000' },
      lanes: { type: 'string', default: '8' },
      seed: { type: 'string', default: `${Date.now() % 1_000_000}` }
    }
  })
  const { cycles, lanes, seed } = values
  const report = await runCycles({ cycles: Number(cycles), lanes: Number(lanes), seed: Number(seed) })
  console.log(JSON.stringify(report))
  process.exitCode = report.leaks.length === 0 ? 0 : 7
}
