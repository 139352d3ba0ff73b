// Executes ops, network by network. A failed device op stops its own network only; a failed entry op stops nothing. An op on a
// container's interface that has vanished is skipped: the container has ended meanwhile, and the next pass finds it missing.

import { setImmediate as nextTurn } from 'node:timers/promises'
import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { Vni } from '#model/ids.ts'
import type { Clock } from '#platform/clock.ts'
import { refusalError } from '#platform/netlink-error.ts'
import type { ExecuteResult } from '../driver.ts'
import type { Message } from '../netlink/bytes.ts'
import { isContainerDevice } from '../plan/network/names.ts'
import { describe, isEntryOp, OP_TRAITS, type BridgeOp, type EntryOp } from '../plan/network/op.ts'
import { executeDeviceOp } from './execute-device.ts'
import { entryMessages } from './execute-entry.ts'
import { readLink, type Kernel } from '../kernel/kernel.ts'
import type { Removal } from '../kernel/removal.ts'

/** How long execution may block the event loop before it yields, between two networks. */
const YIELD_AFTER_MS = 5
/** Entry ops in one batch: they take some 5 ms. */
const BATCH_ENTRIES = 1_000

type Tally = {
  done: number
  skipped: number
  readonly failures: { readonly op: BridgeOp; readonly error: VxmeshError }[]
}

/** Never throws for a failing op. Devices that are not recreated are deleted together at the end. */
export async function execute(
  p: { readonly kernel: Kernel; readonly removal: Removal; readonly clock: Clock },
  ops: readonly BridgeOp[]
): Promise<ExecuteResult<BridgeOp>> {
  const tally: Tally = { done: 0, skipped: 0, failures: [] }
  const deletes: DeleteOp[] = []
  let since = p.clock.nowMs()
  for (const group of byNetwork(ops)) {
    await executeNetwork({ kernel: p.kernel, removal: p.removal, ops: group, tally, deletes })
    if (p.clock.nowMs() - since > YIELD_AFTER_MS) {
      await nextTurn()
      since = p.clock.nowMs()
    }
  }
  await removeTogether(p.removal, deletes, tally)
  return tally
}

type DeleteOp = Extract<BridgeOp, { kind: 'device-delete' }>

function byNetwork(ops: readonly BridgeOp[]): Iterable<readonly BridgeOp[]> {
  const groups = new Map<Vni | null, BridgeOp[]>()
  for (const op of ops) {
    const group = groups.get(op.vni)
    if (group === undefined) groups.set(op.vni, [op])
    else group.push(op)
  }
  return groups.values()
}

async function executeNetwork(p: {
  kernel: Kernel
  removal: Removal
  ops: readonly BridgeOp[]
  tally: Tally
  deletes: DeleteOp[]
}): Promise<void> {
  const { kernel, ops, tally } = p
  const recreated = new Set(ops.filter(op => op.kind === 'vxlan-create').map(op => op.device))
  const entries: EntryOp[] = []
  for (const [i, op] of ops.entries()) {
    if (isEntryOp(op)) {
      entries.push(op)
    } else if (op.kind === 'device-delete' && !recreated.has(op.device)) {
      p.deletes.push(op)
    } else {
      try {
        if (op.kind === 'device-delete') await p.removal.remove([{ ifindex: op.ifindex, name: op.device }])
        else executeDeviceOp(kernel, op)
        tally.done++
      } catch (err) {
        if (hasVanished(kernel, op)) {
          tally.skipped++
          continue
        }
        tally.failures.push({ op, error: opError(op, err) })
        tally.skipped += ops.length - i - 1 + entries.length
        return
      }
    }
  }
  await executeEntries(kernel, entries, tally)
}

/** In batches, between which it yields to the event loop: a network may have a hundred thousand entries. */
async function executeEntries(kernel: Kernel, ops: readonly EntryOp[], tally: Tally): Promise<void> {
  for (let start = 0; start < ops.length; start += BATCH_ENTRIES) {
    if (start > 0) await nextTurn()
    writeEntries(kernel, ops.slice(start, start + BATCH_ENTRIES), tally)
  }
}

function writeEntries(kernel: Kernel, ops: readonly EntryOp[], tally: Tally): void {
  const indexes = new Map<string, number>()
  const messages: Message[] = []
  const owners: EntryOp[] = []
  let withoutDevice = 0
  for (const op of ops) {
    const ifindex = indexes.get(op.device) ?? readLink(kernel.socket, op.device)?.ifindex ?? 0
    indexes.set(op.device, ifindex)
    if (ifindex === 0) {
      // The device was deleted meanwhile, with its entries; the next plan creates what should be there.
      withoutDevice++
      if (OP_TRAITS[op.kind].removes) tally.done++
      else if (isContainerDevice(op.device)) tally.skipped++
      else tally.failures.push({ op, error: new VxmeshError('ERR_KERNEL', `${describe(op)}: no such device`) })
      continue
    }
    for (const message of entryMessages(op, ifindex)) {
      messages.push(message)
      owners.push(op)
    }
  }
  const refused = new Map<EntryOp, VxmeshError>()
  const vanished = new Set<EntryOp>()
  try {
    const refusals = kernel.socket.batch(messages, 'write entries')
    refusals.forEach((refusal, i) => {
      if (refusal === null) return
      const op = owners[i]
      if (op === undefined || (OP_TRAITS[op.kind].removes && ABSENT.includes(refusal.errno))) return
      if (refusal.errno === 'ENODEV' && isContainerDevice(op.device)) vanished.add(op)
      else refused.set(op, refusalError(describe(op), refusal))
    })
  } catch (err) {
    for (const op of owners) refused.set(op, opError(op, err))
  }
  for (const [op, error] of refused) tally.failures.push({ op, error })
  tally.skipped += vanished.size
  tally.done += ops.length - withoutDevice - vanished.size - refused.size
}

function hasVanished(kernel: Kernel, op: BridgeOp): boolean {
  return isContainerDevice(op.device) && readLink(kernel.socket, op.device) === null
}

const ABSENT: readonly string[] = ['ENOENT', 'ENODEV', 'ESRCH', 'EADDRNOTAVAIL']

async function removeTogether(removal: Removal, ops: readonly DeleteOp[], tally: Tally): Promise<void> {
  try {
    await removal.remove(ops.map(op => ({ ifindex: op.ifindex, name: op.device })))
    tally.done += ops.length
  } catch (err) {
    for (const op of ops) tally.failures.push({ op, error: opError(op, err) })
  }
}

/** The kernel's error, with the op in front. */
function opError(op: BridgeOp, err: unknown): VxmeshError {
  const { code, message, context } = asVxmeshError(err)
  return new VxmeshError(code, `${describe(op)}: ${message}`, { cause: err, context })
}
