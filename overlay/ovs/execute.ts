// Carries a switch's plan out, stretch by stretch of like ops. Where a network's port cannot be made, nothing of that
// network is done after it: its flows would lead elsewhere.

import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { Vni } from '#model/ids.ts'
import type { ExecuteResult, OpFailure } from '../driver.ts'
import { describe, type Op } from '../plan/network/op.ts'
import type { Bridge, PortSet } from './bridge.ts'
import type { Ofctl } from './ofctl.ts'

export type Hands = {
  readonly devices: (ops: readonly Op[]) => Promise<ExecuteResult>
  readonly bridge: Bridge
  readonly ofctl: Ofctl
}

type Tally = { done: number; skipped: number; readonly failures: OpFailure[]; readonly broken: Set<Vni | null> }
type FlowOp = Extract<Op, { kind: 'flows-set' | 'flows-delete' }>

/** Never throws for a failing op. */
export async function executeSwitch(hands: Hands, ops: readonly Op[]): Promise<ExecuteResult> {
  const tally: Tally = { done: 0, skipped: 0, failures: [], broken: new Set() }
  for (const stretch of stretches(ops)) {
    const going = stretch.filter(op => !tally.broken.has(null) && !tally.broken.has(op.vni))
    tally.skipped += stretch.length - going.length
    if (going.length > 0) await executeStretch(hands, going, tally)
  }
  const { done, skipped, failures } = tally
  return { done, skipped, failures }
}

type Turn = 'switch' | 'port' | 'flows' | 'port-delete' | 'device'

function turnOf(op: Op): Turn {
  switch (op.kind) {
    case 'switch-set':
      return 'switch'
    case 'switch-port-set':
      return 'port'
    case 'switch-port-delete':
      return 'port-delete'
    case 'flows-set':
    case 'flows-delete':
      return 'flows'
    default:
      return 'device'
  }
}

function stretches(ops: readonly Op[]): readonly (readonly Op[])[] {
  const found: Op[][] = []
  let last: Turn | null = null
  for (const op of ops) {
    const turn = turnOf(op)
    if (turn === last) found.at(-1)?.push(op)
    else found.push([op])
    last = turn
  }
  return found
}

async function executeStretch(hands: Hands, ops: readonly Op[], tally: Tally): Promise<void> {
  const [first] = ops
  switch (first === undefined ? 'device' : turnOf(first)) {
    case 'switch':
      await attempt(tally, ops, async () => {
        await hands.bridge.ensure()
        await hands.ofctl.seeFragments()
      })
      break
    case 'port':
      await setPorts(hands.bridge, ops as readonly PortSet[], tally)
      break
    case 'flows':
      await changeFlows(hands.ofctl, ops as readonly FlowOp[], tally)
      break
    case 'port-delete':
      await attempt(tally, ops, () => hands.bridge.deletePorts(ops.map(op => op.device)))
      break
    case 'device': {
      const { done, skipped, failures } = await hands.devices(ops)
      tally.done += done
      tally.skipped += skipped
      for (const failure of failures) fail(tally, failure.op, failure.error)
      break
    }
  }
}

/** Together; when that is refused, one by one, so that one bad port is the only one to fail. */
async function setPorts(bridge: Bridge, ops: readonly PortSet[], tally: Tally): Promise<void> {
  let failed: ReadonlyMap<PortSet, string>
  try {
    failed = await bridge.setPorts(ops)
  } catch (err) {
    if (ops.length > 1) for (const op of ops) await setPorts(bridge, [op], tally)
    else for (const op of ops) fail(tally, op, err)
    return
  }
  for (const [op, why] of failed) fail(tally, op, new VxmeshError('ERR_KERNEL', why))
  tally.done += ops.length - failed.size
}

async function changeFlows(ofctl: Ofctl, ops: readonly FlowOp[], tally: Tally): Promise<void> {
  try {
    await ofctl.change(ops.map(({ change }) => change))
    tally.done += ops.length
  } catch (err) {
    if (ops.length > 1) for (const op of ops) await changeFlows(ofctl, [op], tally)
    else for (const op of ops) fail(tally, op, err)
  }
}

async function attempt(tally: Tally, ops: readonly Op[], work: () => Promise<void>): Promise<void> {
  try {
    await work()
    tally.done += ops.length
  } catch (err) {
    for (const op of ops) fail(tally, op, err)
  }
}

function fail(tally: Tally, op: Op, err: unknown): void {
  const { code, message, context } = asVxmeshError(err)
  tally.failures.push({ op, error: new VxmeshError(code, `${describe(op)}: ${message}`, { cause: err, context }) })
  // A device of no network holds nobody up; without the switch nothing can be done.
  if (op.vni !== null || turnOf(op) === 'switch') tally.broken.add(op.vni)
}
