// The problems that a pass could not repair, by network.

import { VxmeshError } from '#model/errors.ts'
import type { OpNote, PartReport } from '#overlay/pass.ts'
import type { Scope } from './retry-state.ts'

export type ProblemsByScope = Map<Scope, VxmeshError[]>

/** Of these parts. */
export function problemsOf(reports: readonly PartReport[]): ProblemsByScope {
  const problems: ProblemsByScope = new Map()
  for (const { vni, error, effect } of reports.flatMap(report => report.problems)) {
    const { code, message, context } = error
    const shown =
      effect === undefined ? error : new VxmeshError(code, `${effect}: ${message}`, { cause: error, context })
    addProblem(problems, vni ?? 'host', shown)
  }
  return problems
}

export function addProblem(problems: ProblemsByScope, scope: Scope, error: VxmeshError): void {
  const list = problems.get(scope)
  if (list === undefined) problems.set(scope, [error])
  else list.push(error)
}

/** A network without egress still works inside: such problems are reported and stop nothing. */
export function isEgress({ concern }: Pick<PartReport, 'concern'>): boolean {
  return concern === 'egress'
}

export function scopeOf({ vni }: Pick<OpNote, 'vni'>): Scope {
  return vni ?? 'host'
}
