// Executes a plan for a switch. Consecutive ops of one group form a batch. After a failed op the rest of its network is
// skipped: without its port, a network's flows would output to the wrong place. A port whose device has vanished is skipped
// alone: its container has ended meanwhile, nothing is sent there, and the next pass finds it missing.

import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { IfName, Vni } from '#model/ids.ts'
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
  /** Was it a container's interface, and is gone? */
  readonly hasVanished: (device: IfName) => boolean
}

type ExecuteFailure = ExecuteResult<SwitchOp>['failures'][number]
/** `broken`: networks with a failed op; null when the switch itself failed. `vanished`: ops on devices that have vanished. */
type Tally = {
  done: number
  skipped: number
  readonly failures: ExecuteFailure[]
  readonly vanished: SwitchOp[]
  readonly broken: Set<Vni | null>
}
type FlowOp = Extract<SwitchOp, { kind: 'flows-set' | 'flows-delete' }>

/** `vanished`: those of the skipped ops that are about devices that have vanished. */
export type SwitchResult = ExecuteResult<SwitchOp> & { readonly vanished: readonly SwitchOp[] }

/** A failing op does not throw: it is reported in the result. */
export async function executeSwitch(targets: SwitchTargets, ops: readonly SwitchOp[]): Promise<SwitchResult> {
  const tally: Tally = { done: 0, skipped: 0, failures: [], vanished: [], broken: new Set() }
  for (const batch of batchesOf(ops)) {
    const runnable = batch.filter(op => !tally.broken.has(null) && !tally.broken.has(op.vni))
    tally.skipped += batch.length - runnable.length
    if (runnable.length > 0) await executeBatch(targets, runnable, tally)
  }
  const { done, skipped, failures, vanished } = tally
  return { done, skipped: skipped + vanished.length, failures, vanished }
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
        targets,
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
async function setPorts(targets: SwitchTargets, ops: readonly PortSet[], tally: Tally): Promise<void> {
  const refuse = (op: PortSet, err: unknown): void => {
    if (targets.hasVanished(op.device)) tally.vanished.push(op)
    else fail(tally, op, err)
  }
  let failed: ReadonlyMap<PortSet, string>
  try {
    failed = await targets.bridge.setPorts(ops)
  } catch (err) {
    if (ops.length > 1) for (const op of ops) await setPorts(targets, [op], tally)
    else for (const op of ops) refuse(op, err)
    return
  }
  for (const [op, why] of failed) refuse(op, new VxmeshError('ERR_KERNEL', why))
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
