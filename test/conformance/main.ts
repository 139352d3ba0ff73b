// The conformance suite: runs the same scenarios on every driver and kernel that this machine offers and prints the matrix
// of results. The machine's own kernel and User-Mode Linux, which has one processor, run in parallel. Debian's kernel under
// QEMU takes long and runs only when it is named.
//   node test/conformance/main.ts [here|uml|qemu]     one of them alone

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

const ROOT = resolve(import.meta.dirname, '../..')
const PROGRAM = 'test/conformance/plane.ts'
/** Bound of one plane: only one that hangs reaches it, even on a busy machine. */
const WHOLE_MS = 2_700_000
/** Few, because a slow processor sends every frame. */
const FEW_ATTEMPTS = { ATTACK_ATTEMPTS: '5' } as const
/** The same under QEMU, where one takes 8 minutes on a quiet machine, and two run one after the other. */
const QEMU_WHOLE_MS = 1_800_000

type Ran = { readonly tap: string; readonly exitCode: number }

const [only] = process.argv.slice(2)
if (only !== undefined && only !== 'here' && only !== 'uml' && only !== 'qemu') {
  console.error(`conformance: "${only}" is none of here, uml and qemu`)
  process.exit(2)
}
const noRoot = cannotRun()
if (noRoot !== false) {
  console.log(`conformance: skipped: ${noRoot}`)
  process.exit(0)
}
// What a kernel leaves is removed when this process ends, so it ends in order.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(1))
const noSwitch = await OpenVSwitch.cannotRun()
const noUml = await cannotRunUml()
const here = async (): Promise<Column[]> => [
  await column('bpf, this kernel', cannotRunPrograms(), () => onThisKernel('bpf')),
  await column('linux, this kernel', false, () => onThisKernel('linux')),
  await column('ovs-netdev, this kernel', noSwitch, () => onThisKernel('ovs-netdev'))
]
const there = async (): Promise<Column[]> => [
  await column('ovs-system, UML', noUml || noSwitch, () => inUml('ovs-system')),
  await column('linux, UML', noUml, () => inUml('linux')),
  await column('bpf, UML', noUml, () => inUml('bpf'))
]
const emulated = async (): Promise<Column[]> => {
  const noQemu = await cannotRunQemu()
  return [
    await column('bpf, Debian 6.1 (QEMU)', noQemu, () => inQemu('bpf')),
    await column('linux, Debian 6.1 (QEMU)', noQemu, () => inQemu('linux'))
  ]
}
const KERNELS = { here, uml: there, qemu: emulated } as const
const chosen = only === undefined ? (['here', 'uml'] as const) : ([only] as const)
const columns = (await Promise.all(chosen.map(kernel => KERNELS[kernel]()))).flat()
console.log(`\n${format(columns)}`)
const failed = failuresOf(columns)
console.log(`${passedOf(columns)} passed, ${failed} failed`)
process.exit(failed === 0 ? 0 : 1)

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

async function inUml(plane: Plane): Promise<Ran> {
  const { exitCode, stdout, stderr } = await runInUml([PROGRAM, plane], { wholeMs: WHOLE_MS, env: FEW_ATTEMPTS })
  return { tap: `${stdout}${stderr}`, exitCode }
}

async function inQemu(plane: Plane): Promise<Ran> {
  const kernel = await debianKernel()
  const { exitCode, stdout, stderr } = await runInQemu(kernel, [PROGRAM, plane], {
    wholeMs: QEMU_WHOLE_MS,
    env: FEW_ATTEMPTS
  })
  return { tap: `${stdout}${stderr}`, exitCode }
}

function onThisKernel(plane: Plane): Promise<Ran> {
  const child = spawn(process.execPath, [join(ROOT, PROGRAM), plane], { cwd: ROOT, timeout: WHOLE_MS })
  const chunks: Buffer[] = []
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => chunks.push(chunk))
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', code => resolve({ tap: Buffer.concat(chunks).toString(), exitCode: code ?? 1 }))
  })
}
