// Diffs desired against observed: tables to replace, and elements to add or delete in tables whose rules are right. Pure.

import { fits, type Element, type Elements } from './element.ts'
import type { ObservedTable } from './listing.ts'
import { setsOf, type FilterTable } from './ruleset.ts'

export type TableState = {
  readonly table: FilterTable
  /** The shape of the table when its rules are right. */
  readonly shape: string
  readonly desired: Elements
  /** Null: the table does not exist or cannot be read. */
  readonly observed: ObservedTable | null
}

export type ElementChange = { readonly table: FilterTable; readonly element: Element }

export type FilterPlan = {
  /** Tables to replace, with the elements to load. */
  readonly installs: readonly { readonly table: FilterTable; readonly elements: Elements }[]
  readonly adds: readonly ElementChange[]
  readonly deletes: readonly ElementChange[]
}

/** `mayRemove` decides about an element that is not desired: it stays while the replicated state may be stale. O(elements). */
export function planFilter(states: readonly TableState[], mayRemove: (element: Element) => boolean): FilterPlan {
  const installs: { table: FilterTable; elements: Elements }[] = []
  const adds: ElementChange[] = []
  const deletes: ElementChange[] = []
  for (const { table, shape, desired, observed } of states) {
    const surplus = [...(observed?.elements.values() ?? [])].filter(element => !desired.has(element.text))
    if (observed?.shape === shape) {
      for (const element of desired.values()) if (!observed.elements.has(element.text)) adds.push({ table, element })
      for (const element of surplus) if (mayRemove(element)) deletes.push({ table, element })
    } else {
      const kept = surplus
        .filter(element => fits(table, element) && !mayRemove(element))
        .map(element => [element.text, element] as const)
      installs.push({ table, elements: new Map([...kept, ...desired]) })
    }
  }
  return { installs, adds, deletes }
}

/** Replaces the table, or creates it, in one transaction: every packet sees either the old table or the new one. */
export function installScript(table: FilterTable, elements: Elements): string {
  const at = `${table.family} ${table.name}`
  const fill = setsOf(table).map(set => {
    const words = [...elements.values()].filter(element => element.set === set).map(({ text }) => text)
    return words.length === 0 ? [] : [`add element ${at} ${set} { ${words.join(', ')} }`]
  })
  return [`add table ${at}`, `delete table ${at}`, `table ${at} {${table.body}`, '}', ...fill.flat(), ''].join('\n')
}

export type TableInstall = {
  readonly kind: 'table-install'
  readonly table: FilterTable
  readonly elements: Elements
}

export type FilterOp = TableInstall | ({ readonly kind: 'element-add' | 'element-delete' } & ElementChange)

/** In the order of execution: tables, then adds before deletes. */
export function filterOps({ installs, adds, deletes }: FilterPlan): readonly FilterOp[] {
  return [
    ...installs.map(install => ({ kind: 'table-install', ...install }) as const),
    ...adds.map(change => ({ kind: 'element-add', ...change }) as const),
    ...deletes.map(change => ({ kind: 'element-delete', ...change }) as const)
  ]
}

/** One line, for the log. */
export function describeFilterOp(op: FilterOp): string {
  const { family, name } = op.table
  switch (op.kind) {
    case 'table-install':
      return `install ${family} ${name} with ${op.elements.size} elements`
    case 'element-add':
      return `add ${op.element.text} to set ${op.element.set} of ${family} ${name}`
    case 'element-delete':
      return `delete ${op.element.text} from set ${op.element.set} of ${family} ${name}`
  }
}
