// Mutual exclusion: asynchronous tasks that must not interleave run one after the other, in call order.

export class Serial {
  #last: Promise<unknown> = Promise.resolve()
  /** The group that waits for its turn. */
  #group: (() => Promise<void>)[] | null = null

  run<T>(task: () => Promise<T>): Promise<T> {
    const result = this.#last.then(task)
    this.#last = result.catch(() => undefined)
    return result
  }

  /** As `run`, but all tasks added before the turn comes share it and run concurrently. */
  together<T>(task: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const member = (): Promise<void> => Promise.resolve().then(task).then(resolve, reject)
      if (this.#group !== null) {
        this.#group.push(member)
        return
      }
      const members = [member]
      this.#group = members
      void this.run(() => {
        this.#group = null
        return Promise.all(members.map(start => start()))
      })
    })
  }
}

/** One Serial per key, removed when it is idle. */
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
