// Which selectors labels meet. Labels that have the same values under all keys that the selectors name are looked at once. Pure.

import type { Labels } from '#model/labels.ts'
import { formatRequirements, meets, type Requirements } from '#model/requirement.ts'

export class LabelClasses {
  readonly #selectors: ReadonlyMap<string, Requirements>
  readonly #keys: readonly string[]
  readonly #known = new Map<string, readonly string[]>()

  constructor(selectors: readonly Requirements[]) {
    this.#selectors = new Map(selectors.map(each => [formatRequirements(each), each]))
    this.#keys = [...new Set(selectors.flatMap(each => each.map(({ key }) => key)))]
  }

  get isEmpty(): boolean {
    return this.#selectors.size === 0
  }

  /** The texts of the selectors that these labels meet. */
  of(labels: Labels): readonly string[] {
    const name = this.#classOf(labels)
    const known = this.#known.get(name)
    if (known !== undefined) return known
    const met = [...this.#selectors].filter(([, select]) => meets(labels, select)).map(([text]) => text)
    this.#known.set(name, met)
    return met
  }

  /** No value has a line break, or is a blank: that stands for a label that there is not. */
  #classOf(labels: Labels): string {
    return this.#keys.map(key => (Object.hasOwn(labels, key) ? labels[key] : ' ')).join('\n')
  }
}
