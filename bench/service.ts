// What a service costs: TCP and requests of one container to another by a service's address and port, compared with the same two
// containers without it, on two namespace hosts (`hosts`) and on one (`local`), under driver bpf. The reconcile passes are ours, without
// agents. `bystander`: what those who use no service lose by being in a network that has some, against a network without any.
//   npm run -s bench -- service [--rounds N]

import { parseArgs } from 'node:util'
import { parseIp } from '#model/ip.ts'
import type { DesiredService } from '#overlay/plan/services/service.ts'
import { bare } from '../test/lab/container.ts'
import { blue, red, Stage } from '../test/lab/stage.ts'
import { median, rounded, say, type Figures, type Report } from './report.ts'
import { waitReachable, type Path, type Reach } from './throughput/form.ts'
import { makeTools, measureTcp, PORT, requests, type Tools } from './throughput/measure.ts'

const REACHES: readonly Reach[] = ['hosts', 'local']
/** Network red has services, blue has none. */
const WAYS = ['plain', 'direct', 'service'] as const
type Way = (typeof WAYS)[number]
const PAIRS = { service: ['service', 'direct'], bystander: ['direct', 'plain'] } as const satisfies Record<
  string,
  readonly [Way, Way]
>
const [VIP, VIP_PORT] = ['10.1.200', 80]

type Measured = {
  readonly tcp1BitsPerSecond: number
  readonly requestsPerSecond: number
  readonly p50Us: number
  readonly p99Us: number
}
const FIGURES = [
  'tcp1BitsPerSecond',
  'requestsPerSecond',
  'p50Us',
  'p99Us'
] as const satisfies readonly (keyof Measured)[]
type Turn = { readonly reach: Reach; readonly way: Way; readonly path: Path }
/** By reach and way, one of each round. */
type Runs = Map<string, Measured[]>

export async function bench(args: readonly string[]): Promise<Report> {
  const { values } = parseArgs({ args: [...args], options: { rounds: { type: 'string', default: '11' } } })
  const rounds = Number(values.rounds)
  const closers: (() => Promise<void>)[] = []
  const owner = { teardown: (close: () => Promise<void>) => closers.push(close) }
  try {
    const stage = await Stage.open(owner, 'bpf', {
      hosts: 2,
      places: {
        ...{ r1: [red, 1, '10.1.0.2'], rlocal: [red, 1, '10.1.0.3'], rhosts: [red, 2, '10.1.0.4'] },
        ...{ b1: [blue, 1, '10.1.0.2'], blocal: [blue, 1, '10.1.0.3'], bhosts: [blue, 2, '10.1.0.4'] }
      }
    })
    stage.services = new Map([[red.name, REACHES.map((reach, n) => serviceTo(stage, `r${reach}`, n))]])
    for (const host of stage.members) await stage.pass(host)
    const turns = turnsOf(stage)
    for (const { way, path } of turns) if (way !== 'service') await waitReachable('bpf', path)
    return report(await measureAll(await makeTools(stage.lab.dir), turns, rounds), rounds)
  } finally {
    for (const close of closers.reverse()) await close()
  }
}

/** With this one container behind it. */
function serviceTo(stage: Stage, name: string, n: number): DesiredService {
  const backends = [{ address: parseIp(bare(stage.address(name))), port: Number(PORT) }]
  return {
    address: parseIp(`${VIP}.${n + 1}`),
    ports: [{ protocol: 'tcp', port: VIP_PORT, backends }],
    affinitySeconds: 0
  }
}

function turnsOf(stage: Stage): Turn[] {
  const end = (name: string): Path['to'] => ({
    namespace: stage.container(name).namespace,
    address: bare(stage.address(name))
  })
  return REACHES.flatMap((reach, n) => {
    const inRed = { from: end('r1'), to: end(`r${reach}`) }
    const paths: Readonly<Record<Way, Path>> = {
      plain: { from: end('b1'), to: end(`b${reach}`) },
      direct: inRed,
      service: { ...inRed, by: { address: `${VIP}.${n + 1}`, port: VIP_PORT } }
    }
    return WAYS.map(way => ({ reach, way, path: paths[way] }))
  })
}

/** Every other round goes backwards, so that a machine that becomes slower favours nobody. */
async function measureAll(tools: Tools, turns: readonly Turn[], rounds: number): Promise<Runs> {
  const runs: Runs = new Map(turns.map(({ reach, way }) => [`${reach} ${way}`, []]))
  for (let round = 1; round <= rounds; round++) {
    for (const { reach, way, path } of round % 2 === 0 ? turns.toReversed() : turns) {
      const measured = { ...(await measureTcp(tools, path)), ...(await requests(tools, path)) }
      runs.get(`${reach} ${way}`)?.push(measured)
      const gigabits = (measured.tcp1BitsPerSecond / 1e9).toFixed(2)
      say(
        `round ${round} ${reach} ${way}: ${gigabits} Gbit/s, ${measured.requestsPerSecond.toFixed(0)} requests/s p50 ${measured.p50Us} us`
      )
    }
  }
  return runs
}

function report(runs: Runs, rounds: number): Report {
  const each = (of: (figure: keyof Measured) => number): Figures =>
    Object.fromEntries(FIGURES.map(name => [name, rounded(of(name))]))
  const all = (reach: Reach, way: Way): readonly Measured[] => runs.get(`${reach} ${way}`) ?? []
  const ratio = (reach: Reach, [one, other]: readonly [Way, Way]): Figures =>
    each(name => median(all(reach, one).map((run, n) => run[name] / (all(reach, other)[n]?.[name] ?? NaN))))
  const byReach = <T>(of: (reach: Reach) => T): Record<string, T> =>
    Object.fromEntries(REACHES.map(reach => [reach, of(reach)]))
  const ratios = byReach(reach => ({ service: ratio(reach, PAIRS.service), bystander: ratio(reach, PAIRS.bystander) }))
  const worst = (name: keyof Measured): number => Math.min(...REACHES.map(reach => ratios[reach]?.service[name] ?? NaN))
  return {
    ours: { requestRateRatio: worst('requestsPerSecond'), throughputRatio: worst('tcp1BitsPerSecond') },
    facts: {
      rounds,
      medianOfRatios: ratios,
      medians: byReach(reach =>
        Object.fromEntries(WAYS.map(way => [way, each(name => median(all(reach, way).map(run => run[name])))]))
      )
    }
  }
}
