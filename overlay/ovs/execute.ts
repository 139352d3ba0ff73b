// Executes a plan for a switch. Consecutive ops of one group form a batch. After a failed op the rest of its network is
// skipped: without its port, a network's flows would output to the wrong place.

import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { Vni } from '#model/ids.ts'
import type { ExecuteResult } from '../driver.ts'
import { describe, type DeviceOp, type SwitchOp } from '../plan/network/op.ts'
import type { Bridge, PortSet } from './bridge.ts'
import type { Ofctl } from './ofctl.ts'

type SwitchBridge = Pick<Bridge, 'ensure' | 'setPorts' | 'deletePorts'>
type SwitchFlows = Pick<Ofctl, 'enableFragmentMatching' | 'change'>

/** What the ops act on. */
export type SwitchTargets = {
  readonly devices: (ops: readonly DeviceOp[]) => Promise<ExecuteResult<DeviceOp>>
  readonly bridge: SwitchBridge
  readonly ofctl: SwitchFlows
}

type ExecuteFailure = ExecuteResult<SwitchOp>['failures'][number]
/** `broken`: networks with a failed op; null when the switch itself failed. */
type Tally = { done: number; skipped: number; readonly failures: ExecuteFailure[]; readonly broken: Set<Vni | null> }
type FlowOp = Extract<SwitchOp, { kind: 'flows-set' | 'flows-delete' }>

/** A failing op does not throw: it is reported in the result. */
export async function executeSwitch(
  targets: SwitchTargets,
  ops: readonly SwitchOp[]
): Promise<ExecuteResult<SwitchOp>> {
  const tally: Tally = { done: 0, skipped: 0, failures: [], broken: new Set() }
  for (const batch of batchesOf(ops)) {
    const runnable = batch.filter(op => !tally.broken.has(null) && !tally.broken.has(op.vni))
    tally.skipped += batch.length - runnable.length
    if (runnable.length > 0) await executeBatch(targets, runnable, tally)
  }
  const { done, skipped, failures } = tally
  return { done, skipped, failures }
}

type OpGroup = 'switch' | 'port' | 'flows' | 'port-delete' | 'device'

function groupOf(op: SwitchOp): OpGroup {
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

function isFlowOp(op: SwitchOp): op is FlowOp {
  return groupOf(op) === 'flows'
}

function isDeviceOp(op: SwitchOp): op is DeviceOp {
  return groupOf(op) === 'device'
}

function batchesOf(ops: readonly SwitchOp[]): readonly (readonly SwitchOp[])[] {
  const batches: SwitchOp[][] = []
  let last: OpGroup | null = null
  for (const op of ops) {
    const group = groupOf(op)
    if (group === last) batches.at(-1)?.push(op)
    else batches.push([op])
    last = group
  }
  return batches
}

async function executeBatch(targets: SwitchTargets, ops: readonly SwitchOp[], tally: Tally): Promise<void> {
  const [first] = ops
  switch (first === undefined ? 'device' : groupOf(first)) {
    case 'switch':
      await attempt(tally, ops, async () => {
        await targets.bridge.ensure()
        await targets.ofctl.enableFragmentMatching()
      })
      break
    case 'port':
      await setPorts(
        targets.bridge,
        ops.filter(op => op.kind === 'switch-port-set'),
        tally
      )
      break
    case 'flows':
      await changeFlows(targets.ofctl, ops.filter(isFlowOp), tally)
      break
    case 'port-delete':
      await attempt(tally, ops, () => targets.bridge.deletePorts(ops.map(op => op.device)))
      break
    case 'device': {
      const { done, skipped, failures } = await targets.devices(ops.filter(isDeviceOp))
      tally.done += done
      tally.skipped += skipped
      for (const failure of failures) fail(tally, failure.op, failure.error)
      break
    }
  }
}

/** In one transaction; if that is refused, one by one, so that only the bad ports fail. */
async function setPorts(bridge: SwitchBridge, ops: readonly PortSet[], tally: Tally): Promise<void> {
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

async function changeFlows(ofctl: SwitchFlows, ops: readonly FlowOp[], tally: Tally): Promise<void> {
  try {
    await ofctl.change(ops.map(({ change }) => change))
    tally.done += ops.length
  } catch (err) {
    if (ops.length > 1) for (const op of ops) await changeFlows(ofctl, [op], tally)
    else for (const op of ops) fail(tally, op, err)
  }
}

async function attempt(tally: Tally, ops: readonly SwitchOp[], run: () => Promise<void>): Promise<void> {
  try {
    await run()
    tally.done += ops.length
  } catch (err) {
    for (const op of ops) fail(tally, op, err)
  }
}

function fail(tally: Tally, op: SwitchOp, err: unknown): void {
  const { code, message, context } = asVxmeshError(err)
  tally.failures.push({ op, error: new VxmeshError(code, `${describe(op)}: ${message}`, { cause: err, context }) })
  // A failed op without a network stops nothing, unless it was to set up the switch: then nothing else can succeed.
  if (op.vni !== null || groupOf(op) === 'switch') tally.broken.add(op.vni)
}
