// Runs the parts of the test suite one after the other and counts: tap's tests each, every other tool as one.

import { spawn } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '..')
const bin = join(root, 'node_modules/.bin')

type Count = { passed: number; failed: number }
type Part = { readonly name: string; readonly run: () => Promise<Count> }

const PARTS: readonly Part[] = [
  { name: 'check', run: check },
  {
    name: 'unit',
    run: () =>
      tap(
        files(name => !name.startsWith('namespace/') && !name.startsWith('sim/')),
        2
      )
  },
  { name: 'sim', run: simulate },
  // One after the other: each fills the machine with hosts of its own.
  {
    name: 'namespace',
    run: () =>
      tap(
        files(name => name.startsWith('namespace/')),
        1
      )
  },
  { name: 'chaos', run: () => tool(['test/chaos/main.ts', '--rounds', '10', '--failovers', '5']) },
  { name: 'demo', run: demo }
]

const wanted = process.argv.slice(2)
const unknown = wanted.filter(name => !PARTS.some(part => part.name === name))
if (unknown.length > 0) {
  console.error(`test: there is no part ${unknown.join(', ')}; there are ${PARTS.map(part => part.name).join(', ')}`)
  process.exit(2)
}

const total: Count = { passed: 0, failed: 0 }
const lines: string[] = []
for (const part of PARTS.filter(({ name }) => wanted.length === 0 || wanted.includes(name))) {
  console.log(`\n=== ${part.name}`)
  const since = performance.now()
  const count = await part.run()
  total.passed += count.passed
  total.failed += count.failed
  const seconds = ((performance.now() - since) / 1_000).toFixed(0)
  lines.push(`${part.name.padEnd(10)} ${count.passed} passed, ${count.failed} failed, ${seconds} s`)
}
console.log(`\n=== summary\n${lines.join('\n')}`)
console.log(`${total.passed} passed, ${total.failed} failed`)
process.exit(total.failed === 0 && total.passed > 0 ? 0 : 1)

/** Types, lint, formatting. */
async function check(): Promise<Count> {
  const count = { passed: 0, failed: 0 }
  for (const script of ['types', 'lint', 'format:check']) {
    const { code } = await execute('npm', ['run', '-s', script], 'show')
    console.log(`${code === 0 ? 'ok' : 'not ok'} - ${script}`)
    if (code === 0) count.passed += 1
    else count.failed += 1
  }
  return count
}

/** A file of tests a process; counts each top-level test of each file, and a file that ends badly as one failure. */
async function tap(paths: readonly string[], jobs: number): Promise<Count> {
  const flags = ['--disable-coverage', '--allow-empty-coverage', '--reporter=tap', `--jobs=${jobs}`, '--timeout=300']
  const { code, output } = await execute('tap', [...flags, ...paths], 'keep')
  const count = { passed: 0, failed: 0 }
  for (const line of output.split('\n')) {
    // A file's tests are indented once; a file itself not at all.
    if (/^ {4}ok \d+ - /.test(line)) count.passed += 1
    if (/^ {4}not ok \d+ - /.test(line)) count.failed += 1
    if (/^ok \d+ - /.test(line)) console.log(line)
    if (/^not ok \d+ - /.test(line)) console.log(line)
  }
  if (code !== 0) {
    if (count.failed === 0) count.failed = 1
    console.log(failures(output))
  }
  return count
}

/** The lines around each failure, without the thousands that passed. */
function failures(output: string): string {
  const lines = output.split('\n')
  const near = new Set<number>()
  for (const [at, line] of lines.entries()) {
    if (/^\s*not ok /.test(line)) for (let n = at - 2; n < at + 40; n++) near.add(n)
  }
  return lines.filter((line, at) => near.has(at) && !/^\s*ok /.test(line)).join('\n')
}

async function simulate(): Promise<Count> {
  const seeds = await tool(['test/sim/main.ts', '--seeds', '2000'])
  const mutants = await tool(['test/sim/main.ts', '--mutant', 'all'])
  const { passed, failed } = await tap(
    files(name => name.startsWith('sim/')),
    2
  )
  return { passed: seeds.passed + mutants.passed + passed, failed: seeds.failed + mutants.failed + failed }
}

/** A program of ours that says by its exit code whether all is well. */
async function tool(args: readonly string[]): Promise<Count> {
  const { code } = await execute('node', args, 'show')
  return code === 0 ? { passed: 1, failed: 0 } : { passed: 0, failed: 1 }
}

/** The demo counts its own checks in its last line. */
async function demo(): Promise<Count> {
  const { output } = await execute('node', ['test/demo/main.ts', '--once'], 'both')
  const counts = /^(\d+) passed, (\d+) failed$/m.exec(output)
  return counts === null ? { passed: 0, failed: 1 } : { passed: Number(counts[1]), failed: Number(counts[2]) }
}

function files(select: (name: string) => boolean): string[] {
  return readdirSync(import.meta.dirname, { recursive: true, encoding: 'utf8' })
    .filter(name => name.endsWith('.test.ts') && select(name))
    .sort()
    .map(name => join('test', name))
}

function execute(
  file: string,
  args: readonly string[],
  output: 'show' | 'keep' | 'both'
): Promise<{ code: number; output: string }> {
  const env = { ...process.env, PATH: `${bin}:${process.env['PATH'] ?? ''}` }
  const child = spawn(file, args, { cwd: root, env, stdio: ['ignore', 'pipe', 'inherit'] })
  const chunks: Buffer[] = []
  child.stdout.on('data', (chunk: Buffer) => {
    if (output !== 'keep') process.stdout.write(chunk)
    if (output !== 'show') chunks.push(chunk)
  })
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', code => resolve({ code: code ?? 1, output: Buffer.concat(chunks).toString() }))
  })
}
