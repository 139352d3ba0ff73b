// What the parts of a pass write to the log.

import type { Concern, PartReport } from '#overlay/pass.ts'
import type { Logger } from '#platform/log.ts'

/** Filters follow each change of hosts, devices each change of endpoints; routers change rarely. */
const DONE_LEVELS: Readonly<Record<Concern, 'debug' | 'info' | null>> = {
  filter: 'debug',
  forwarding: null,
  programs: null,
  egress: 'info'
}

export function logReports(logger: Logger, reports: readonly PartReport[]): void {
  for (const { part, concern, done, failures, problems } of reports) {
    const level = DONE_LEVELS[concern]
    if (level !== null && done.length > 0) logger[level]({ part, done: done.map(op => op.text()) }, 'ops done')
    for (const { op, error } of failures) logger.error({ part, op: op.text(), err: error }, 'op failed')
    for (const { vni, error } of problems) {
      const isOps = failures.some(failure => failure.error === error)
      if (!isOps && concern !== 'forwarding') logger.error({ part, vni, err: error }, 'part of a pass failed')
    }
  }
}
