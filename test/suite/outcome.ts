// The outcome of a part of the suite: how many tests passed and failed, and the output to print. Pure.

import type { Execution } from './execute.ts'

export type Outcome = { readonly passed: number; readonly failed: number; readonly output: string }

/** A program that reports only an exit code counts as one test. */
export function verdict(ok: boolean, output: string): Outcome {
  return { passed: ok ? 1 : 0, failed: ok ? 0 : 1, output }
}

export function sum(outcomes: readonly Outcome[]): Outcome {
  return outcomes.reduce((a, b) => ({
    passed: a.passed + b.passed,
    failed: a.failed + b.failed,
    output: a.output + b.output
  }))
}

/** Reads the counts in the last line of a program that counts its own checks. */
export function readCounts({ code, output }: Execution): Outcome {
  const counts = /^(\d+) passed, (\d+) failed$/m.exec(output)
  if (counts === null) return verdict(code === 0, output)
  const [passed, failed] = [Number(counts[1]), Number(counts[2])]
  return { passed, failed: code === 0 ? failed : Math.max(1, failed), output }
}

/** Counts the top-level tests of each file, and a file that ends badly as one failure. */
export function readTap({ code, output }: Execution): Outcome {
  // A file's tests are indented once, a file itself not at all.
  const all = output.split('\n')
  const passed = all.filter(line => /^ {4}ok \d+ - /.test(line)).length
  const failed = all.filter(line => /^ {4}not ok \d+ - /.test(line)).length
  const shown = [...all.filter(line => /^(not )?ok \d+ - /.test(line)), ...(code === 0 ? [] : failures(all))]
  return { passed, failed: code === 0 ? failed : Math.max(1, failed), output: `${shown.join('\n')}\n` }
}

/** The lines around each failure; the last lines if no line reports one. */
export function failures(lines: readonly string[]): string[] {
  const near = new Set<number>()
  for (const [at, line] of lines.entries()) {
    if (/^\s*not ok /.test(line)) for (let n = at - 2; n < at + 40; n++) near.add(n)
  }
  if (near.size === 0) return lines.slice(-40)
  return lines.filter((line, at) => near.has(at) && !/^\s*ok /.test(line))
}
