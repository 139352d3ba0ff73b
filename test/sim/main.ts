// The simulator's command line: runs many seeds, or checks that every mutant is detected.
//   node test/sim/main.ts [--hosts] [--seeds N] [--first-seed S]       the last line is one JSON object
//   node test/sim/main.ts [--hosts] --mutant NAME|all [--seeds N] [--control-from S]   seeds below S were run without mutants
// It simulates consensus cores (world.ts) or, with --hosts, whole hosts (hosts/host-world.ts).
// A violation prints the command that replays it. Exit status: 0 for no violation, 7 otherwise.

import { parseArgs } from 'node:util'
import { Counters, TraceHash } from './counters.ts'
import { CORE, HOSTS, type MutantRun } from './modes.ts'

const MAX_SHOWN = 5

const { values } = parseArgs({
  options: {
    hosts: { type: 'boolean', default: false },
    seeds: { type: 'string' },
    'first-seed': { type: 'string' },
    mutant: { type: 'string' },
    'control-from': { type: 'string' }
  }
})
const mode = values.hosts ? HOSTS : CORE
const firstSeed = count(values['first-seed'] ?? '1', '--first-seed')
process.exitCode =
  values.mutant === undefined
    ? await runSeeds(count(values.seeds ?? '1000', '--seeds'))
    : await runMutants(values.mutant, count(values.seeds ?? `${mode.mutantSeeds}`, '--seeds'))

async function runSeeds(seeds: number): Promise<number> {
  const [faults, probes, trace] = [new Counters(mode.faults), new Counters(mode.probes), new TraceHash()]
  const startedAt = performance.now()
  const cpu = process.cpuUsage()
  let [violations, events, simulatedMs, committed, acknowledged] = [0, 0, 0, 0, 0]
  for (let seed = firstSeed; seed < firstSeed + seeds; seed++) {
    const run = await mode.simulate(seed)
    events += run.events
    simulatedMs += run.simulatedMs
    committed += run.committed
    acknowledged += run.acknowledged
    faults.merge(run.faults)
    probes.merge(run.probes)
    trace.add(parseInt(run.traceHash.slice(0, 8), 16), parseInt(run.traceHash.slice(8), 16))
    if (run.violation === null) continue
    violations += 1
    if (violations <= MAX_SHOWN) {
      console.log(`seed ${seed}: ${run.violation}`)
      console.log(`  replay: npm run -s sim --${mode.args} --seeds 1 --first-seed ${seed}`)
    }
  }
  const wallSeconds = (performance.now() - startedAt) / 1_000
  const simulatedSeconds = simulatedMs / 1_000
  const { user, system } = process.cpuUsage(cpu)
  const cpuSeconds = (user + system) / 1e6
  const [times, cpuTimes] = [wallSeconds, cpuSeconds].map(seconds => Math.round(simulatedSeconds / seconds))
  console.log(`${seeds} seeds, ${violations} violations, ${times} times real time, ${cpuTimes} a second of processor`)
  const traceHash = trace.hex
  const facts = { seeds, violations, events, committed, acknowledged }
  console.log(
    JSON.stringify({
      ...facts,
      faults: faults.counts,
      probes: probes.counts,
      simulatedSeconds,
      wallSeconds,
      cpuSeconds,
      traceHash
    })
  )
  return violations === 0 ? 0 : 7
}

/** A mutant is killed by the first seed with a violation. The control runs the same seeds without a mutant. */
async function runMutants(name: string, seeds: number): Promise<number> {
  const { mutants } = mode
  const chosen = name === 'all' ? mutants : mutants.filter(mutant => mutant.name === name)
  if (chosen.length === 0) usage(`--mutant: "${name}" is none of ${mutants.map(m => m.name).join(', ')}`)
  const tried = new Set<number>()
  const killingSeeds: Record<string, number> = {}
  for (const mutant of chosen) {
    const found = await kill(mutant, seeds)
    if (found === null) console.log(`${mutant.name}: survives ${seeds} seeds`)
    else {
      for (const seed of found.tried) tried.add(seed)
      killingSeeds[mutant.name] = found.seed
      console.log(`${mutant.name}: killed by seed ${found.seed} after ${found.tried.length} seeds: ${found.violation}`)
    }
  }
  const controlFrom = count(values['control-from'] ?? '1', '--control-from')
  const controls = [...tried].filter(seed => seed >= controlFrom)
  let control = 0
  for (const seed of controls) if ((await mode.simulate(seed)).violation !== null) control += 1
  console.log(`control: ${control} violations in ${controls.length} seeds without a mutant`)
  const killed = Object.keys(killingSeeds).length
  console.log(JSON.stringify({ mutants: chosen.length, killed, control, killingSeeds }))
  return killed === chosen.length && control === 0 ? 0 : 7
}
async function kill(
  mutant: MutantRun,
  seeds: number
): Promise<{ readonly seed: number; readonly tried: readonly number[]; readonly violation: string } | null> {
  const simulate = await mutant.load()
  const tried: number[] = []
  for (const seed of inOrder(mutant, seeds)) {
    tried.push(seed)
    const { violation } = await simulate(seed)
    if (violation !== null) return { seed, tried, violation }
  }
  return null
}

/** The seed that is known to kill the mutant comes first, unless the command line names the first seed. */
function inOrder({ killingSeed }: MutantRun, seeds: number): readonly number[] {
  const all = Array.from({ length: seeds }, (_, n) => firstSeed + n)
  if (values['first-seed'] !== undefined || !all.includes(killingSeed)) return all
  return [killingSeed, ...all.filter(seed => seed !== killingSeed)]
}

function count(text: string, flag: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 1) usage(`${flag}: "${text}" is not a positive integer`)
  return value
}

function usage(message: string): never {
  console.error(message)
  process.exit(2)
}
