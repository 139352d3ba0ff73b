// Runs files of tap tests, a Node process each. tap's own runner costs more processor time than most of the files: it loads
// hooks into each process, and with hooks in place Node does not use its compile cache.

import type { Execute, Execution } from './execute.ts'

/** A file that is past its bound reports which test hangs; one that does not even do that is killed. */
const REPORT_SECONDS = 60

/** @returns TAP in which each file is a test, as tap's own runner writes it */
export async function runTestFiles(
  execute: Execute,
  paths: readonly string[],
  p: { readonly jobs: number; readonly boundSeconds: number }
): Promise<Execution> {
  const results: { readonly ok: boolean; readonly output: string }[] = []
  const waiting = [...paths.entries()]
  const runNext = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const [at, path] = next
      const since = performance.now()
      const { code, output } = await execute('node', [path], {
        env: { TAP_TIMEOUT: `${p.boundSeconds}` },
        boundSeconds: p.boundSeconds + REPORT_SECONDS
      })
      const ok = code === 0 && isComplete(output)
      results[at] = { ok, output: asSubtest({ path, output, ok, at, code, ms: performance.now() - since }) }
    }
  }
  await Promise.all(Array.from({ length: p.jobs }, runNext))
  const output = [`TAP version 14`, ...results.map(result => result.output), `1..${paths.length}\n`].join('\n')
  return { code: results.every(({ ok }) => ok) ? 0 : 1, output }
}

/** Whether a file ran to its end: it has as many results as its plan says, and a process that ends early has no plan. */
function isComplete(output: string): boolean {
  const plan = /^1\.\.(\d+)/m.exec(output)
  return plan !== null && (output.match(/^(not )?ok \d+/gm) ?? []).length === Number(plan[1])
}

function asSubtest(p: {
  readonly path: string
  readonly output: string
  readonly ok: boolean
  readonly at: number
  readonly code: number
  readonly ms: number
}): string {
  const lines = p.output.split('\n').filter(line => line !== '' && line !== 'TAP version 14')
  const verdict = `${p.ok ? 'ok' : 'not ok'} ${p.at + 1} - ${p.path} # time=${p.ms.toFixed(0)}ms`
  const why = p.ok ? [] : ['  ---', `  exitCode: ${p.code}`, `  complete: ${isComplete(p.output)}`, '  ...']
  return [`# Subtest: ${p.path}`, ...lines.map(line => `    ${line}`), verdict, ...why].join('\n')
}
