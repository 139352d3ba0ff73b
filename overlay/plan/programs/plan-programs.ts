// Diffs desired against observed tables and programs. Entries are set before a program runs on a device, and deleted last. Pure.

import type { Vni } from '#model/ids.ts'
import { placeKey, sendsBy, type DesiredPrograms, type Place } from './desired-programs.ts'
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
  /** By `placeKey`: is its program the one that this agent loaded? */
  readonly attached: ReadonlyMap<number, boolean>
  /** Devices that run a program of ours and should not. */
  readonly surplus: readonly { readonly device: string; readonly ifindex: number; readonly program: string }[]
}

export function planPrograms(desired: DesiredPrograms, observed: ObservedPrograms): readonly ProgramOp[] {
  const sets: EntriesSet[] = []
  const deletes: EntriesDelete[] = []
  for (const table of TABLES) {
    const added = new Map<Vni | null, number>()
    // Set for another network by this plan: a delete would come after it.
    const isTaken = (key: Key): boolean =>
      BY_IFINDEX.includes(table) && [...desired.tables.values()].some(tables => tables[table].has(key))
    for (const [vni, tables] of desired.tables) {
      const held = observed.tables.get(vni)?.[table]
      const { entries, fresh } = missing(tables[table], held)
      if (entries.keys.length > 0) sets.push({ kind: 'entries-set', vni, table, entries })
      added.set(vni, fresh)
    }
    for (const [vni, tables] of observed.tables) {
      const wanted = desired.tables.get(vni)?.[table]
      // All that is held is wanted.
      if (wanted !== undefined && tables[table].size === wanted.size - (added.get(vni) ?? 0)) continue
      const keys: Key[] = []
      for (const key of tables[table].keys()) if (wanted?.has(key) !== true && !isTaken(key)) keys.push(key)
      if (keys.length > 0) deletes.push({ kind: 'entries-delete', vni, table, keys })
    }
  }
  const attaches = [...desired.places.values()].filter(place => observed.attached.get(placeKey(place)) !== true)
  const detaches = observed.surplus.map(({ device, ifindex, program }) => {
    return { kind: 'program-detach', vni: null, device, ifindex, program } as const
  })
  const attach = (place: Place): ProgramOp => ({ kind: 'program-attach', ...place })
  // A port that may send to services must get their answers.
  const [early, late] = [
    attaches.filter(({ program }) => sendsBy(program)),
    attaches.filter(({ program }) => !sendsBy(program))
  ]
  return [...early.map(attach), ...sets, ...late.map(attach), ...detaches, ...deletes]
}

/** What is to be written, and how many of the keys are fresh. */
function missing(wanted: Entries, held: Entries | undefined): { readonly entries: Changes; readonly fresh: number } {
  const keys: Key[] = []
  const values: Value[] = []
  let fresh = 0
  wanted.forEach((value, key) => {
    const before = held?.get(key)
    if (before === value) return
    if (before === undefined) fresh += 1
    keys.push(key)
    values.push(value)
  })
  return { entries: { keys, values }, fresh }
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
