// One after the other: tasks that must not interleave, in the order in which they were asked for.

export class Serial {
  #last: Promise<unknown> = Promise.resolve()

  #together: (() => Promise<void>)[] | null = null

  run<T>(task: () => Promise<T>): Promise<T> {
    const result = this.#last.then(task)
    this.#last = result.catch(() => undefined)
    return result
  }

  /** The same, but all that is asked for until the turn comes shares it and runs at once. */
  together<T>(task: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const member = (): Promise<void> => Promise.resolve().then(task).then(resolve, reject)
      if (this.#together !== null) {
        this.#together.push(member)
        return
      }
      const members = [member]
      this.#together = members
      void this.run(() => {
        this.#together = null
        return Promise.all(members.map(one => one()))
      })
    })
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
