// Desired against observed: the tables to be made anew, and the elements to be added and deleted in those that are right.

import type { Element, Elements } from './element.ts'
import type { ObservedTable } from './listing.ts'
import type { FilterTable } from './ruleset.ts'

export type TableState = {
  readonly table: FilterTable
  /** How a right table is listed. */
  readonly shape: string
  readonly desired: Elements
  /** Null: there is none, or it cannot be read. */
  readonly observed: ObservedTable | null
}

export type ElementChange = { readonly table: FilterTable; readonly element: Element }

export type FilterPlan = {
  /** Tables to be replaced, with the elements that they shall have. */
  readonly installs: readonly { readonly table: FilterTable; readonly elements: Elements }[]
  readonly adds: readonly ElementChange[]
  readonly deletes: readonly ElementChange[]
}

/**
 * `mayRemove` tells of an element that is not desired whether it may go: not while the state may be older than what was
 * acted upon. O(elements).
 */
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
      const kept = surplus.filter(element => !mayRemove(element)).map(element => [element.text, element] as const)
      installs.push({ table, elements: new Map([...kept, ...desired]) })
    }
  }
  return { installs, adds, deletes }
}

/** One transaction that replaces a table, whatever is there: packets meet the old one or the new one, never none. */
export function installScript(table: FilterTable, elements: Elements): string {
  const at = `${table.family} ${table.name}`
  const words = [...elements.values()].map(element => element.text).join(', ')
  return [
    `add table ${at}`,
    `delete table ${at}`,
    `table ${at} {${table.body}`,
    '}',
    ...(words === '' ? [] : [`add element ${at} ${table.set} { ${words} }`]),
    ''
  ].join('\n')
}

/** For people and logs. */
export function describeFilterPlan({ installs, adds, deletes }: FilterPlan): readonly string[] {
  const at = ({ table }: ElementChange): string => `set ${table.set} of ${table.family} ${table.name}`
  return [
    ...installs.map(({ table, elements }) => `install ${table.family} ${table.name} with ${elements.size} elements`),
    ...adds.map(change => `add ${change.element.text} to ${at(change)}`),
    ...deletes.map(change => `delete ${change.element.text} from ${at(change)}`)
  ]
}
