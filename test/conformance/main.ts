// The conformance suite: runs the same scenarios on every driver and kernel that this machine offers and prints the matrix
// of results. The machine's own kernel and User-Mode Linux, which has one processor, run in parallel. What takes long runs only
// when it is named: Debian's kernel under QEMU, and the rest of the families, IPv6 alone and what the second kernel has of both.
//   node test/conformance/main.ts [here|uml|qemu|families]     one of them alone

import { spawn } from 'node:child_process'
import { join, resolve } from 'node:path'
import { asVxmeshError } from '#model/errors.ts'
import { closeDatapath } from '#overlay/bpf/datapath.ts'
import { openDatapath } from '#overlay/bpf/open.ts'
import { OpenVSwitch } from '../lab/open-vswitch.ts'
import type { Plane } from '../lab/stage.ts'
import { cannotRun } from '../lab/requirements.ts'
import { cannotRunQemu, debianKernel } from '../qemu/debian-kernel.ts'
import { runInQemu } from '../qemu/qemu.ts'
import { cannotRunUml, runInUml } from '../uml/uml.ts'
import { failuresOf, format, passedOf, readColumn, type Column } from './matrix.ts'
import { end } from '../suite/end.ts'

const ROOT = resolve(import.meta.dirname, '../..')
const PROGRAM = 'test/conformance/plane.ts'
/** Bound of one plane: only one that hangs reaches it, even on a busy machine. */
const WHOLE_MS = 2_700_000
/** Few, because a slow processor sends every frame. */
const FEW_ATTEMPTS = { ATTACK_ATTEMPTS: '5' } as const
/** The same under QEMU, where one takes 8 minutes on a quiet machine, and two run one after the other. */
const QEMU_WHOLE_MS = 1_800_000

/** IPv4 without more. `families`: of the networks (test/lab/families.ts). `underlay`: the hosts have IPv6 alone (test/lab/family.ts). */
type Variant = { readonly families?: 'both' | 'ipv6'; readonly underlay?: 'ipv6' }
type Ran = { readonly tap: string; readonly exitCode: number }

const [only] = process.argv.slice(2)
const noRoot = cannotRun()
if (noRoot !== false) {
  console.log(`conformance: skipped: ${noRoot}`)
  process.exit(0)
}
// What a kernel leaves is removed when this process ends, so it ends in order.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(1))
const noSwitch = await OpenVSwitch.cannotRun()
const noUml = await cannotRunUml()
const KERNELS: Readonly<Record<string, () => Promise<Column[]>>> = {
  // Both take turns with the processor: a scenario waits most of the time.
  here: () =>
    inTurns([
      [
        () => onThisKernel('bpf'),
        () => onThisKernel('linux'),
        () => onThisKernel('bpf', { families: 'both' }),
        () => onThisKernel('linux', { families: 'both' }),
        () => onThisKernel('linux', { underlay: 'ipv6' })
      ],
      [
        () => onThisKernel('ovs-netdev'),
        () => onThisKernel('ovs-netdev', { families: 'both' }),
        () => onThisKernel('ovs-netdev', { underlay: 'ipv6' })
      ]
    ]),
  uml: () => inTurns([[() => inUml('ovs-system'), () => inUml('linux'), () => inUml('bpf')]]),
  qemu: () => inTurns([[() => inQemu('bpf'), () => inQemu('linux')]]),
  families: () =>
    inTurns([
      [
        () => onThisKernel('bpf', { families: 'ipv6' }),
        () => onThisKernel('linux', { families: 'ipv6' }),
        () => onThisKernel('ovs-netdev', { families: 'ipv6' })
      ],
      [
        () => inUml('ovs-system', { families: 'both' }),
        () => inUml('ovs-system', { families: 'ipv6' }),
        () => inUml('linux', { families: 'both' }),
        () => inUml('bpf', { families: 'both' })
      ]
    ])
}
if (only !== undefined && !(only in KERNELS)) {
  console.error(`conformance: "${only}" is none of ${Object.keys(KERNELS).join(', ')}`)
  process.exit(2)
}
const chosen = only === undefined ? ['here', 'uml'] : [only]
const kernels = Object.entries(KERNELS).filter(([name]) => chosen.includes(name))
const columns = (await Promise.all(kernels.map(([, columnsOf]) => columnsOf()))).flat()
console.log(`\n${format(columns)}`)
const failed = failuresOf(columns)
console.log(`${passedOf(columns)} passed, ${failed} failed`)
end(failed === 0 ? 0 : 1)

/** Each list one after the other, the lists side by side. */
async function inTurns(lists: readonly (readonly (() => Promise<Column>)[])[]): Promise<Column[]> {
  const all = lists.map(async list => {
    const done: Column[] = []
    for (const run of list) done.push(await run())
    return done
  })
  return (await Promise.all(all)).flat()
}

/** Why this kernel cannot run our programs, or false. */
function cannotRunPrograms(): string | false {
  try {
    closeDatapath(openDatapath(null))
    return false
  } catch (err) {
    return asVxmeshError(err).message
  }
}

/** A plane that this machine lacks is reported and is no failure. */
async function column(title: string, cannot: string | false, work: () => Promise<Ran>): Promise<Column> {
  if (cannot !== false) return { title, cells: new Map([['all', `not possible here (${cannot})`]]) }
  const since = performance.now()
  const ran = await work().catch((err: unknown) => ({ tap: String(err), exitCode: 1 }))
  const result = readColumn(title, ran)
  console.log(`${title}: ${((performance.now() - since) / 1_000).toFixed(0)} s`)
  console.log(failuresOf([result]) > 0 ? ran.tap : (ran.tap.match(/^ +# (?!Subtest|time).*$/gm) ?? []).join('\n'))
  return result
}

function onThisKernel(plane: Plane, variant: Variant = {}): Promise<Column> {
  const cannot = plane === 'bpf' ? cannotRunPrograms() : plane !== 'linux' && noSwitch
  return column(titleOf(plane, 'this kernel', variant), cannot, () => spawned(plane, variablesOf(variant)))
}

function inUml(plane: Plane, variant: Variant = {}): Promise<Column> {
  const cannot = noUml || (plane === 'ovs-system' && noSwitch)
  const env = { ...FEW_ATTEMPTS, ...variablesOf(variant) }
  return column(titleOf(plane, 'UML', variant), cannot, async () =>
    ran(await runInUml([PROGRAM, plane], { wholeMs: WHOLE_MS, env }))
  )
}

async function inQemu(plane: Plane): Promise<Column> {
  const settings = { wholeMs: QEMU_WHOLE_MS, env: FEW_ATTEMPTS }
  return column(titleOf(plane, 'Debian 6.1 (QEMU)', {}), await cannotRunQemu(), async () =>
    ran(await runInQemu(await debianKernel(), [PROGRAM, plane], settings))
  )
}

function titleOf(plane: Plane, kernel: string, { families, underlay }: Variant): string {
  const networks = families === undefined ? '' : families === 'both' ? ', both families' : ', IPv6 alone'
  return `${plane}${underlay === undefined ? '' : ' over IPv6'}, ${kernel}${networks}`
}

function variablesOf({ families, underlay }: Variant): Readonly<Record<string, string>> {
  return {
    ...(families === undefined ? {} : { LAB_FAMILY: families }),
    ...(underlay === undefined ? {} : { LAB_UNDERLAY: underlay })
  }
}

function ran(p: { readonly exitCode: number; readonly stdout: string; readonly stderr: string }): Ran {
  return { tap: `${p.stdout}${p.stderr}`, exitCode: p.exitCode }
}

function spawned(plane: Plane, more: NodeJS.ProcessEnv): Promise<Ran> {
  const env = { ...process.env, ...more }
  const child = spawn(process.execPath, [join(ROOT, PROGRAM), plane], { cwd: ROOT, env, timeout: WHOLE_MS })
  const chunks: Buffer[] = []
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => chunks.push(chunk))
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', code => resolve({ tap: Buffer.concat(chunks).toString(), exitCode: code ?? 1 }))
  })
}
