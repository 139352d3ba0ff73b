// Requests in an order that makes sense: those about one container one after the other, those about a network before
// and after all others, everything else side by side. Bounded in number and in bytes.

export type Task = {
  /** Requests of one key wait for each other; null waits for all and is waited for by all. */
  readonly key: string | null
  readonly bytes: number
  readonly run: () => Promise<void>
}

export class OrderedWork {
  readonly #maxTasks: number
  readonly #maxBytes: number
  /** The last task of each key that has not ended. */
  readonly #tails = new Map<string, Promise<void>>()
  #barrier: Promise<void> = Promise.resolve()
  #tasks = 0
  #bytes = 0

  constructor(bounds: { readonly maxTasks: number; readonly maxBytes: number }) {
    this.#maxTasks = bounds.maxTasks
    this.#maxBytes = bounds.maxBytes
  }

  /** How many tasks wait or run. */
  get size(): number {
    return this.#tasks
  }

  /** False when there is no room: nothing was taken. A task must not reject. */
  add({ key, bytes, run }: Task): boolean {
    if (this.#tasks >= this.#maxTasks || this.#bytes + bytes > this.#maxBytes) return false
    this.#tasks += 1
    this.#bytes += bytes
    const before = key === null ? this.#all() : (this.#tails.get(key) ?? this.#barrier)
    const done = before.then(run).finally(() => {
      this.#tasks -= 1
      this.#bytes -= bytes
      if (key !== null && this.#tails.get(key) === done) this.#tails.delete(key)
    })
    if (key === null) {
      this.#tails.clear()
      this.#barrier = done
    } else {
      this.#tails.set(key, done)
    }
    return true
  }

  /** Resolves when all that was added until now has ended. */
  async settled(): Promise<void> {
    await this.#all()
  }

  #all(): Promise<void> {
    return Promise.all([this.#barrier, ...this.#tails.values()]).then(() => undefined)
  }
}
