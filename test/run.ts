// Runs the parts of the test suite and counts their tests; a tool that is not tap counts as one. What measures rates or
// latencies runs by itself at the end; what tolerates neighbours runs before that, side by side; what only computes runs
// in the background. Each part's output is printed once it is over, and failures are repeated at the end.

import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { Background, execute, root, type Execute } from './suite/execute.ts'
import { buildProgram } from './suite/program.ts'
import { runTestFiles } from './suite/test-files.ts'
import { failures, readCounts, readTap, sum, verdict, type Outcome } from './suite/outcome.ts'
import { end } from './suite/end.ts'

type Part = {
  readonly name: string
  readonly run?: (execute: Execute) => Promise<Outcome>
  /** What else it runs, from the start of the suite, beside the parts before it. */
  readonly ahead?: () => Promise<Outcome>
  /** Parts whose work ahead it waits for before its own. */
  readonly after?: readonly string[]
  /** Tolerates starvation: its tests use a simulated clock or measure processor time. */
  readonly background?: true
  /** Takes long: runs only when it is named. */
  readonly onDemand?: true
}

/** They measure rates or saturate the processor: no other hosts run at the same time. */
const ALONE = namespaceFiles('fuzz', 'gateway-rates', 'shaping-rates')
/** The longest of the others start first, so that none of them runs alone at the end. */
const LONGEST = namespaceFiles(
  'host-access',
  'servers',
  'underlay',
  'gateway',
  'restart',
  'reload',
  'backup',
  'package'
)
/** More than there are processors, because namespace tests wait a lot. */
const NAMESPACE_JOBS = 3
/** Bound of a file: only one that hangs reaches it, even on a busy machine. */
const FILE_SECONDS = 1_800
/** So that the part ends within 90 minutes whatever hangs. */
const QEMU_FILE_SECONDS = 900
/** Bound of a file in the background, which a busy machine may not run for minutes. */
const STARVED_SECONDS = 3_600
const isUnit = (name: string): boolean => !/^(namespace|qemu|sim|uml)\//.test(name)

const PARTS: readonly Part[] = [
  { name: 'check', run: check, background: true },
  { name: 'sim', run: simulate, background: true },
  {
    name: 'fuzz',
    run: execute => tool(execute, 'npm', 'run', '-s', 'fuzz', '--', '--inputs', '1000000'),
    background: true
  },
  { name: 'namespace', run: namespace },
  { name: 'unit', ahead: () => tap(execute, files(isUnit), 2) },
  { name: 'conformance', ahead: async () => sum([await conformance('uml'), await conformance('here')]) },
  {
    name: 'attack',
    after: ['unit'],
    ahead: async () => readCounts(await execute('node', ['test/attack/main.ts']))
  },
  { name: 'chaos', ahead: chaos },
  // Four whole hosts and 200 containers at once.
  {
    name: 'demo',
    after: ['unit', 'chaos'],
    ahead: async () => readCounts(await execute('node', ['test/demo/main.ts', '--once']))
  },
  { name: 'families', run: families, onDemand: true },
  { name: 'qemu', run: qemu, onDemand: true }
]

const wanted = process.argv.slice(2)
const unknown = wanted.filter(name => !PARTS.some(part => part.name === name))
if (unknown.length > 0) {
  console.error(`test: there is no part ${unknown.join(', ')}; there are ${PARTS.map(part => part.name).join(', ')}`)
  process.exit(2)
}

const NOTHING: Outcome = { passed: 0, failed: 0, output: '' }
const parts = PARTS.filter(({ name, onDemand = false }) => (wanted.length === 0 ? !onDemand : wanted.includes(name)))
const startedAt = performance.now()
const lines = new Map<string, string>()
const failed: string[] = []
const total = { passed: 0, failed: 0 }
process.env['LAB_VXMESH'] = await buildProgram(root)
const background = new Background()
const ahead = new Map<string, Promise<Outcome>>()
for (const part of parts) if (part.ahead !== undefined) ahead.set(part.name, startAhead(part, part.ahead))
const inBackground = parts.filter(part => part.background).map(part => show(part, background.execute))
for (const part of parts.filter(({ background = false }) => !background)) await show(part, execute)
// They compete like everything else now, because nothing else is left.
background.raise()
await Promise.all(inBackground)
if (failed.length > 0) console.log(`\n${failed.join('\n').trimEnd()}`)
console.log(`\n=== summary, ${seconds(startedAt)} s`)
for (const { name } of parts) console.log(lines.get(name))
console.log(`${total.passed} passed, ${total.failed} failed`)
end(total.failed === 0 && total.passed > 0 ? 0 : 1)

async function startAhead({ after = [] }: Part, run: () => Promise<Outcome>): Promise<Outcome> {
  for (const name of after) await ahead.get(name)
  return run()
}

async function show({ name, run }: Part, execute: Execute): Promise<void> {
  console.log(`${name} begins`)
  const since = performance.now()
  const outcome = sum([(await run?.(execute)) ?? NOTHING, (await ahead.get(name)) ?? NOTHING])
  total.passed += outcome.passed
  total.failed += outcome.failed
  console.log(`\n=== ${name}\n${outcome.output.trimEnd()}`)
  if (outcome.failed > 0) failed.push(`=== failed: ${name}`, ...failures(outcome.output.split('\n')))
  lines.set(name, `${name.padEnd(11)} ${outcome.passed} passed, ${outcome.failed} failed, ${seconds(since)} s`)
}

async function check(execute: Execute): Promise<Outcome> {
  const format = async (): Promise<Outcome> => {
    const { code, output } = await execute('npm', ['run', '-s', 'format:check'])
    return verdict(code === 0, `${output}${code === 0 ? 'ok' : 'not ok'} - format:check\n`)
  }
  const typesAndLint = execute('node', ['test/suite/types-and-lint.ts'])
  return sum(await Promise.all([typesAndLint.then(readCounts), format()]))
}

async function conformance(kernel: 'here' | 'uml' | 'qemu' | 'families'): Promise<Outcome> {
  return readCounts(await execute('node', ['test/conformance/main.ts', kernel]))
}

/** Debian's own kernel, emulated. */
async function qemu(execute: Execute): Promise<Outcome> {
  const paths = files(name => name.startsWith('qemu/'))
  const own = await tap(execute, paths, 1, QEMU_FILE_SECONDS)
  return sum([own, await conformance('qemu')])
}

async function namespace(): Promise<Outcome> {
  const first = new Set([...ALONE, ...LONGEST])
  const others = files(name => /^(namespace|uml)\//.test(name)).filter(path => !first.has(path))
  const shared = await tap(execute, [...LONGEST, ...others], NAMESPACE_JOBS)
  await Promise.all(ahead.values())
  return sum([shared, await tap(execute, ALONE, 1)])
}

/** What takes long, and fails seldom when the rest holds: IPv6 alone, and hosts that have nothing else. */
async function families(): Promise<Outcome> {
  const demo = async (...flags: readonly string[]): Promise<Outcome> =>
    readCounts(await execute('node', ['test/demo/main.ts', '--once', ...flags]))
  // Those that may depend on the family of the hosts' own network.
  const rows = ['stranger', 'member: ', 'router: ', 'stolen', 'after all']
  const attack = await execute('env', ['LAB_UNDERLAY=ipv6', 'node', 'test/attack/main.ts', ...rows])
  const demos = [await demo('--family', 'ipv4'), await demo('--family', 'ipv6'), await demo('--ipv6-underlay')]
  return sum([readCounts(attack), ...demos, await conformance('families')])
}

async function chaos(): Promise<Outcome> {
  const faults = await tool(execute, 'node', 'test/chaos/main.ts', '--rounds', '10', '--failovers', '5')
  return sum([faults, await tool(execute, 'node', 'test/chaos/main.ts', '--hostile', '--minutes', '0.5')])
}

async function simulate(execute: Execute): Promise<Outcome> {
  const sim = (...args: readonly string[]): Promise<Outcome> => tool(execute, 'node', 'test/sim/main.ts', ...args)
  const seeds = sim('--seeds', '2000')
  const mutants = sim('--mutant', 'all', '--control-from', '2001')
  const hosts = sim('--hosts', '--seeds', '100')
  const hostMutants = sim('--hosts', '--mutant', 'all', '--control-from', '101')
  const tests = files(name => name.startsWith('sim/'))
  const programs = await Promise.all([seeds, mutants, hosts, hostMutants])
  return sum([...programs, await tap(execute, tests, 2, STARVED_SECONDS)])
}

/** A process for each file of tests. */
async function tap(
  execute: Execute,
  paths: readonly string[],
  jobs: number,
  boundSeconds = FILE_SECONDS
): Promise<Outcome> {
  return readTap(await runTestFiles(execute, paths, { jobs, boundSeconds }))
}

async function tool(execute: Execute, file: string, ...args: readonly string[]): Promise<Outcome> {
  const { code, output } = await execute(file, args)
  return verdict(code === 0, output)
}

function namespaceFiles(...names: readonly string[]): readonly string[] {
  return names.map(name => `test/namespace/${name}.test.ts`)
}

function files(select: (name: string) => boolean): string[] {
  return readdirSync(import.meta.dirname, { recursive: true, encoding: 'utf8' })
    .filter(name => name.endsWith('.test.ts') && select(name))
    .sort()
    .map(name => join('test', name))
}

function seconds(since: number): string {
  return ((performance.now() - since) / 1_000).toFixed(0)
}
