// One after the other: tasks that must not interleave, in the order in which they were asked for.

export class Serial {
  #last: Promise<unknown> = Promise.resolve()

  run<T>(task: () => Promise<T>): Promise<T> {
    const result = this.#last.then(task)
    this.#last = result.catch(() => undefined)
    return result
  }
}

/** A Serial for each key; forgotten when nothing waits in it. */
export class KeyedSerial {
  readonly #byKey = new Map<string, { readonly serial: Serial; users: number }>()

  async run<T>(key: string, task: () => Promise<T>): Promise<T> {
    const entry = this.#byKey.get(key) ?? { serial: new Serial(), users: 0 }
    this.#byKey.set(key, entry)
    entry.users += 1
    try {
      return await entry.serial.run(task)
    } finally {
      entry.users -= 1
      if (entry.users === 0) this.#byKey.delete(key)
    }
  }
}
