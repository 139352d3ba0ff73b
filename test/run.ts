// Runs the parts of the test suite and counts: tap's tests each, every other tool as one. One part after the other: what
// only computes would take the time away from hosts that live by the clock. Each part is shown when it is over, and what
// failed once more at the end.

import { spawn } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '..')
const bin = join(root, 'node_modules/.bin')

type Outcome = { passed: number; failed: number; output: string }
type Part = { readonly name: string; readonly run: () => Promise<Outcome> }

/** They measure rates, or fill the processor themselves: nothing else of ours with hosts beside them. */
const ALONE = new Set(
  ['fuzz', 'gateway-rates', 'guard-attacks', 'shaping', 'shaping-rates', 'zmq'].map(name => `namespace/${name}.test.ts`)
)
const isUnit = (name: string): boolean => !/^(namespace|sim|uml)\//.test(name)

const PARTS: readonly Part[] = [
  { name: 'check', run: check },
  { name: 'unit', run: () => tap(files(isUnit), 2) },
  { name: 'sim', run: simulate },
  { name: 'fuzz', run: () => tool('npm', 'run', '-s', 'fuzz', '--', '--inputs', '1000000') },
  { name: 'namespace', run: namespace },
  { name: 'conformance', run: () => counted('test/conformance/main.ts') },
  { name: 'chaos', run: () => tool('node', 'test/chaos/main.ts', '--rounds', '10', '--failovers', '5') },
  { name: 'demo', run: () => counted('test/demo/main.ts', '--once') }
]

const wanted = process.argv.slice(2)
const unknown = wanted.filter(name => !PARTS.some(part => part.name === name))
if (unknown.length > 0) {
  console.error(`test: there is no part ${unknown.join(', ')}; there are ${PARTS.map(part => part.name).join(', ')}`)
  process.exit(2)
}

const parts = PARTS.filter(({ name }) => wanted.length === 0 || wanted.includes(name))
const startedAt = performance.now()
const lines = new Map<string, string>()
const trouble: string[] = []
const total = { passed: 0, failed: 0 }
for (const { name, run } of parts) {
  console.log(`${name} begins`)
  const since = performance.now()
  const { passed, failed, output } = await run()
  total.passed += passed
  total.failed += failed
  console.log(`\n=== ${name}\n${output.trimEnd()}`)
  if (failed > 0) trouble.push(`=== failed: ${name}`, ...failures(output.split('\n')))
  lines.set(name, `${name.padEnd(11)} ${passed} passed, ${failed} failed, ${seconds(since)} s`)
}
if (trouble.length > 0) console.log(`\n${trouble.join('\n').trimEnd()}`)
console.log(`\n=== summary, ${seconds(startedAt)} s`)
for (const { name } of parts) console.log(lines.get(name))
console.log(`${total.passed} passed, ${total.failed} failed`)
process.exit(total.failed === 0 && total.passed > 0 ? 0 : 1)

/** Types, lint, formatting. */
async function check(): Promise<Outcome> {
  const outcomes = []
  for (const script of ['types', 'lint', 'format:check']) {
    const { code, output } = await execute('npm', ['run', '-s', script])
    outcomes.push(verdict(code === 0, `${output}${code === 0 ? 'ok' : 'not ok'} - ${script}\n`))
  }
  return sum(outcomes)
}

async function namespace(): Promise<Outcome> {
  const alone = files(name => ALONE.has(name))
  const others = files(name => /^(namespace|uml)\//.test(name) && !ALONE.has(name))
  return sum([await tap(others, 2), await tap(alone, 1)])
}

/** It has no clock but its own, so its programs may share the processors. */
async function simulate(): Promise<Outcome> {
  const seeds = tool('node', 'test/sim/main.ts', '--seeds', '2000')
  const mutants = tool('node', 'test/sim/main.ts', '--mutant', 'all')
  const tests = files(name => name.startsWith('sim/'))
  return sum([await seeds, await mutants, await tap(tests, 2)])
}

/** A program with hosts of its own that counts its checks in its last line. */
async function counted(...args: readonly string[]): Promise<Outcome> {
  const { code, output } = await execute('node', args)
  const counts = /^(\d+) passed, (\d+) failed$/m.exec(output)
  if (counts === null) return verdict(code === 0, output)
  const [passed, failed] = [Number(counts[1]), Number(counts[2])]
  return { passed, failed: code === 0 ? failed : Math.max(1, failed), output }
}

/** A file of tests a process; counts each top-level test of each file, and a file that ends badly as one failure. */
async function tap(paths: readonly string[], jobs: number): Promise<Outcome> {
  const flags = ['--disable-coverage', '--allow-empty-coverage', '--reporter=tap', `--jobs=${jobs}`, '--timeout=300']
  const { code, output } = await execute('tap', [...flags, ...paths])
  // A file's tests are indented once; a file itself not at all.
  const all = output.split('\n')
  const passed = all.filter(line => /^ {4}ok \d+ - /.test(line)).length
  const failed = all.filter(line => /^ {4}not ok \d+ - /.test(line)).length
  const shown = [...all.filter(line => /^(not )?ok \d+ - /.test(line)), ...(code === 0 ? [] : failures(all))]
  return { passed, failed: code === 0 ? failed : Math.max(1, failed), output: `${shown.join('\n')}\n` }
}

/** The lines around each failure, without the thousands that passed; the last ones when none says that it failed. */
function failures(lines: readonly string[]): string[] {
  const near = new Set<number>()
  for (const [at, line] of lines.entries()) {
    if (/^\s*not ok /.test(line)) for (let n = at - 2; n < at + 40; n++) near.add(n)
  }
  if (near.size === 0) return lines.slice(-40)
  return lines.filter((line, at) => near.has(at) && !/^\s*ok /.test(line))
}

/** A program of ours that says by its exit code whether all is well. */
async function tool(file: string, ...args: readonly string[]): Promise<Outcome> {
  const { code, output } = await execute(file, args)
  return verdict(code === 0, output)
}

function verdict(ok: boolean, output: string): Outcome {
  return { passed: ok ? 1 : 0, failed: ok ? 0 : 1, output }
}

function sum(outcomes: readonly Outcome[]): Outcome {
  return outcomes.reduce((a, b) => ({
    passed: a.passed + b.passed,
    failed: a.failed + b.failed,
    output: a.output + b.output
  }))
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

function execute(file: string, args: readonly string[]): Promise<{ code: number; output: string }> {
  const env = { ...process.env, PATH: `${bin}:${process.env['PATH'] ?? ''}` }
  const child = spawn(file, args, { cwd: root, env, stdio: ['ignore', 'pipe', 'inherit'] })
  const chunks: Buffer[] = []
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk))
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', code => resolve({ code: code ?? 1, output: Buffer.concat(chunks).toString() }))
  })
}
