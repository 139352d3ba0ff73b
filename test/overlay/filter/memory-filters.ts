// A kernel's filter tables in memory: each change advances the generation, and a transaction with a stale generation is
// refused.

import type { ElementOp, FilterKernel } from '#overlay/filter/filter-kernel.ts'
import type { TableShape } from '#overlay/filter/guard.ts'
import { nextGeneration } from '#overlay/netlink/nftables.ts'
import type { Element } from '#overlay/plan/filter/element.ts'
import type { ObservedTable } from '#overlay/plan/filter/listing.ts'
import type { TableInstall } from '#overlay/plan/filter/plan-filter.ts'
import { filterTables, type FilterTable } from '#overlay/plan/filter/ruleset.ts'
import { makeHost } from '../fixtures.ts'

export const TABLES: readonly TableShape[] = filterTables({ vtep: makeHost(1).vtep, port: 4789 }).map(table => ({
  table,
  shape: `shape of ${table.name}`
}))

export class MemoryFilters implements FilterKernel {
  readonly portId = 77
  readonly tables = new Map<string, { shape: string; elements: Map<string, Element> }>()
  /** How often whole tables were listed. */
  lists = 0
  readonly writes: (readonly ElementOp[])[] = []
  /** Runs between an observation and the write that follows it, as another program might. */
  interfere: () => void = () => undefined
  #generation = 0xffff_fff0

  generation(): number {
    return this.#generation
  }

  async list(table: FilterTable): Promise<ObservedTable | null> {
    this.lists++
    const found = this.tables.get(table.name)
    return found === undefined ? null : { shape: found.shape, elements: new Map(found.elements) }
  }

  async install(installs: readonly TableInstall[]): Promise<void> {
    this.interfere()
    for (const { table, elements } of installs) {
      this.tables.set(table.name, { shape: `shape of ${table.name}`, elements: new Map(elements) })
    }
    this.change()
  }

  write(generation: number, ops: readonly ElementOp[]): { message: string } | null {
    this.interfere()
    if (generation !== this.#generation) return { message: 'the generation has moved' }
    this.writes.push(ops)
    for (const { kind, table, element } of ops) {
      const elements = this.tables.get(table.name)?.elements
      if (elements === undefined) return { message: `no table ${table.name}` }
      if (kind === 'element-add') elements.set(element.text, element)
      else elements.delete(element.text)
    }
    this.change()
    return null
  }

  counters(): ReadonlyMap<string, number> {
    return new Map()
  }

  close(): void {
    this.tables.clear()
  }

  /** Another program changed a rule of the namespace. */
  change(): void {
    this.#generation = nextGeneration(this.#generation)
  }

  elements(name: string): readonly string[] {
    return [...(this.tables.get(name)?.elements.keys() ?? [])].sort()
  }
}
