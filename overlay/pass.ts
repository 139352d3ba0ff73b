// One pass over the kernel: each part is observed, planned and executed in turn. Production and the test lab both run
// it. The caller holds the lock on the kernel: nothing else in this agent changes the kernel meanwhile.

import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { Vni } from '#model/ids.ts'
import type { DesiredGateways } from './plan/gateway/desired-gateway.ts'
import type { DesiredHost } from './plan/network/desired.ts'
import type { Missing } from './plan/network/plan-network.ts'

/** What a part is for. */
export type Concern = 'filter' | 'forwarding' | 'programs' | 'egress'

/**
 * `hostWide`: runs only in a pass over the whole host. `required`: when it cannot be observed or planned the pass fails;
 * a failure of any other part is a problem of the host and does not stop the parts after it.
 */
const CONCERNS: Readonly<Record<Concern, { readonly hostWide: boolean; readonly required: boolean }>> = {
  filter: { hostWide: true, required: false },
  forwarding: { hostWide: false, required: true },
  programs: { hostWide: false, required: false },
  egress: { hostWide: false, required: false }
}

/** The desired state; each half is computed at most once a pass, when a part first needs it. */
export type Desired = {
  readonly host: () => DesiredHost
  readonly gateways: () => DesiredGateways
}

export type Look = {
  /** One network, or (null) the whole host. */
  readonly scope: Vni | null
  /** A part may skip what it found right last time, so that an attach does not wait for it. */
  readonly trust: boolean
  /** May anything be removed? False while the state may be older than one this host has already acted on. */
  readonly mayRemove: boolean
  readonly desired: Desired
}

/** An op as reports name it. */
export type OpNote = {
  readonly kind: string
  /** Null: the host's own. */
  readonly vni: Vni | null
  /** Must wait while nothing may be removed. */
  readonly removes: boolean
  /** Set when the part knows that the op reverts another program's change. */
  readonly repairs: boolean
  /** One line for people and logs. */
  readonly text: () => string
}

export type PartProblem = {
  /** Null: the host's own. */
  readonly vni: Vni | null
  readonly error: VxmeshError
  /** What the network lacks because of the problem; absent when the network's own forwarding is affected. */
  readonly effect?: string
}

export type PartPlan<Op> = {
  readonly ops: readonly Op[]
  /** Problems that no op can repair. */
  readonly problems: readonly PartProblem[]
  readonly missing?: readonly Missing[]
}

export type PartResult<Op> = {
  readonly done: readonly Op[]
  readonly failures: readonly { readonly op: Op; readonly problem: PartProblem }[]
  /** Why the part must be observed and planned again; null when it need not. */
  readonly again: string | null
}

/** Methods, because their parameters are bivariant: parts with different op types fit into one list. */
export type Part<Observed = unknown, Op = unknown> = {
  readonly name: string
  readonly concern: Concern
  /** Does it hold the addresses of all hosts outside of networks? Only a pass over the whole host updates those. */
  readonly holdsPeers?: boolean
  /** How often it may be observed and planned in one pass. */
  readonly attempts: number
  /** @throws ERR_KERNEL */
  observe(look: Look): Promise<Observed>
  plan(look: Look, observed: Observed): PartPlan<Op>
  /** A failing op does not throw: it is reported in the result. */
  execute(ops: readonly Op[], observed: Observed): Promise<PartResult<Op>>
  note(op: Op): OpNote
  /** Called after the pass with the remaining problems, so that a part can remember what is right. */
  settled?(look: Look, observed: Observed, problems: readonly PartProblem[]): void
}

export type PartReport = {
  readonly part: string
  readonly concern: Concern
  /** Ops that were handed to the kernel, of the last attempt. */
  readonly attempted: readonly OpNote[]
  /** Of all attempts. */
  readonly done: readonly OpNote[]
  readonly deferred: readonly OpNote[]
  readonly problems: readonly PartProblem[]
  readonly missing: readonly Missing[]
  /** Ops that the kernel refused; their errors are among the problems, too. */
  readonly failures: readonly { readonly op: OpNote; readonly error: VxmeshError }[]
}

/** @throws what a required part throws */
export async function runPass(parts: readonly Part[], look: Look): Promise<readonly PartReport[]> {
  const once = { ...look, desired: { host: lazily(look.desired.host), gateways: lazily(look.desired.gateways) } }
  const reports: PartReport[] = []
  for (const part of parts) {
    const { hostWide, required } = CONCERNS[part.concern]
    if (hostWide && look.scope !== null) continue
    try {
      reports.push(await runPart(part, once))
    } catch (err) {
      if (required) throw err
      reports.push({ ...blank(part), problems: [{ vni: null, error: asVxmeshError(err) }] })
    }
  }
  return reports
}

/**
 * Observes, plans and executes until the part needs no further attempt. @throws ERR_KERNEL when that takes more
 * attempts than it has, or what the part throws
 */
export async function runPart<Observed, Op>(part: Part<Observed, Op>, look: Look): Promise<PartReport> {
  const done: OpNote[] = []
  const note = (op: Op): OpNote => part.note(op)
  let why = ''
  for (let attempt = 0; attempt < part.attempts; attempt++) {
    const observed = await part.observe(look)
    const { ops, problems: planned, missing = [] } = part.plan(look, observed)
    const removes = (op: Op): boolean => part.note(op).removes
    const deferred = look.mayRemove ? [] : ops.filter(removes)
    const allowed = deferred.length === 0 ? ops : ops.filter(op => !removes(op))
    const result = await part.execute(allowed, observed)
    const attempted = allowed.map(note)
    // One by one: a network may have more entries than a call takes arguments.
    for (const op of result.done === allowed ? attempted : result.done.map(note)) done.push(op)
    if (result.again !== null) {
      why = result.again
      continue
    }
    const failures = result.failures.map(({ op, problem }) => ({ op: note(op), error: problem.error }))
    const problems = [...planned, ...result.failures.map(({ problem }) => problem)]
    part.settled?.(look, observed, problems)
    return { ...blank(part), attempted, done, deferred: deferred.map(note), problems, missing, failures }
  }
  throw new VxmeshError('ERR_KERNEL', `the ${part.name} cannot be set: ${why}`)
}

function blank({ name, concern }: Pick<Part, 'name' | 'concern'>): PartReport {
  return { part: name, concern, attempted: [], done: [], deferred: [], problems: [], missing: [], failures: [] }
}

function lazily<T>(read: () => T): () => T {
  let value: { readonly it: T } | null = null
  return () => (value ??= { it: read() }).it
}
