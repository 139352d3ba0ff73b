// What a pass of a test had to do, where nothing may be left undone.

import type { PartReport } from '#overlay/pass.ts'

/** In order. @throws what failed first */
export function passDone(reports: readonly PartReport[]): readonly string[] {
  for (const { problems } of reports) if (problems[0] !== undefined) throw problems[0].error
  return reports.flatMap(({ done }) => done.map(op => op.text()))
}
