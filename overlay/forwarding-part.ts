// A driver's forwarding as a part of a pass.

import { VxmeshError } from '#model/errors.ts'
import type { Vni } from '#model/ids.ts'
import type { Forwarding, ForwardingLook } from './driver.ts'
import type { Look, OpNote, Part, PartPlan, PartResult } from './pass.ts'
import { describe, OP_TRAITS, type Op } from './plan/network/op.ts'
import type { Conflict } from './plan/network/plan-network.ts'

export function forwardingPart<Observed, ForwardingOp>(
  forwarding: Forwarding<Observed, ForwardingOp>
): Part<Observed, ForwardingOp> {
  return {
    name: 'devices',
    concern: 'forwarding',
    ...(forwarding.holdsPeers === undefined ? {} : { holdsPeers: forwarding.holdsPeers }),
    attempts: 1,
    observe: look => forwarding.observe(forwardingLook(look)),
    plan: ({ desired }, observed): PartPlan<ForwardingOp> => {
      const { ops, conflicts, missing } = forwarding.plan(desired.host(), observed)
      return { ops, missing, problems: conflicts.map(conflictProblem) }
    },
    execute: ops => executeForwarding(forwarding, ops),
    note: op => forwarding.note(op)
  }
}

export function forwardingLook({ scope, desired }: Look): ForwardingLook {
  return { scope, desired: desired.host }
}

/** After a failure the driver skips the network's remaining ops, so none of that network's ops counts as done. */
export async function executeForwarding<Op>(
  forwarding: Pick<Forwarding<never, Op>, 'execute' | 'note'>,
  ops: readonly Op[]
): Promise<PartResult<Op>> {
  const { failures } = await forwarding.execute(ops)
  const broken = new Set<Vni | null>(failures.map(({ op }) => forwarding.note(op).vni))
  return {
    done: broken.size === 0 ? ops : ops.filter(op => !broken.has(forwarding.note(op).vni)),
    failures: failures.map(({ op, error }) => ({ op, problem: { vni: forwarding.note(op).vni, error } })),
    again: null
  }
}

export function conflictProblem({ vni, device, reason }: Conflict): PartPlan<never>['problems'][number] {
  return { vni, error: new VxmeshError('ERR_KERNEL', `device ${device}: ${reason}`) }
}

/** For drivers whose ops are those of plan/network/op.ts. */
export function networkOpNote(op: Op): OpNote {
  const { kind, vni } = op
  return { kind, vni, removes: OP_TRAITS[kind].removes, repairs: false, text: () => describe(op) }
}
