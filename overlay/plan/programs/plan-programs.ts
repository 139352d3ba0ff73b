// Diffs desired against observed tables and programs. Entries are set before a program runs on a device, and deleted last. Pure.

import type { Vni } from '#model/ids.ts'
import type { DesiredPrograms, Place } from './desired-programs.ts'
import {
  BY_IFINDEX,
  TABLES,
  type Changes,
  type Entries,
  type Key,
  type Table,
  type Tables,
  type Value
} from './tables.ts'

export type EntriesSet = {
  readonly kind: 'entries-set'
  readonly vni: Vni | null
  readonly table: Table
  readonly entries: Changes
}
export type EntriesDelete = {
  readonly kind: 'entries-delete'
  readonly vni: Vni | null
  readonly table: Table
  readonly keys: readonly Key[]
}
/** Of an earlier run. */
export type ProgramDetach = {
  readonly kind: 'program-detach'
  readonly vni: null
  readonly device: string
  readonly ifindex: number
  readonly program: string
}
export type ProgramOp = EntriesSet | EntriesDelete | ({ readonly kind: 'program-attach' } & Place) | ProgramDetach

export type ObservedPrograms = {
  /** Of the networks of the pass. */
  readonly tables: Tables
  /** By ifindex: is its program the one that this agent loaded? */
  readonly attached: ReadonlyMap<number, boolean>
  /** Devices that run a program of ours and should not. */
  readonly surplus: readonly { readonly device: string; readonly ifindex: number; readonly program: string }[]
}

export function planPrograms(desired: DesiredPrograms, observed: ObservedPrograms): readonly ProgramOp[] {
  const sets: EntriesSet[] = []
  const deletes: EntriesDelete[] = []
  for (const table of TABLES) {
    // Set for another network by this plan: a delete would come after it.
    const isTaken = (key: Key): boolean =>
      BY_IFINDEX.includes(table) && [...desired.tables.values()].some(tables => tables[table].has(key))
    for (const [vni, tables] of desired.tables) {
      const held = observed.tables.get(vni)?.[table]
      const entries = missing(tables[table], held)
      if (entries.keys.length > 0) sets.push({ kind: 'entries-set', vni, table, entries })
    }
    for (const [vni, tables] of observed.tables) {
      const wanted = desired.tables.get(vni)?.[table]
      const keys: Key[] = []
      for (const [key] of tables[table]) if (wanted?.has(key) !== true && !isTaken(key)) keys.push(key)
      if (keys.length > 0) deletes.push({ kind: 'entries-delete', vni, table, keys })
    }
  }
  const attaches = [...desired.places.values()].filter(({ ifindex }) => observed.attached.get(ifindex) !== true)
  const detaches = observed.surplus.map(({ device, ifindex, program }) => {
    return { kind: 'program-detach', vni: null, device, ifindex, program } as const
  })
  return [...sets, ...attaches.map(place => ({ kind: 'program-attach', ...place }) as const), ...detaches, ...deletes]
}

function missing(wanted: Entries, held: Entries | undefined): Changes {
  const keys: Key[] = []
  const values: Value[] = []
  for (const [key, value] of wanted) {
    if (held?.get(key) === value) continue
    keys.push(key)
    values.push(value)
  }
  return { keys, values }
}

/** One line, for the log. */
export function describeProgramOp(op: ProgramOp): string {
  const network = op.vni === null ? '' : ` (vni ${op.vni})`
  switch (op.kind) {
    case 'entries-set':
      return `set ${op.entries.keys.length} ${op.table}${network}`
    case 'entries-delete':
      return `delete ${op.keys.length} ${op.table}${network}`
    case 'program-detach':
      return `stop ${op.program} on ${op.device}`
    case 'program-attach':
      return `run ${op.program} on ${op.device}${network}`
  }
}
